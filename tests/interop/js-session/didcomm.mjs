// Just enough DIDComm to carry `open` and `accept`: did:peer and did:key with X25519, and authcrypt
// (ECDH-1PU+A256KW with A256CBC-HS512, draft-madden-jose-ecdh-1pu-04).

import { b64url, concat, equal, equalSecret, lp, uint, unb64url, utf8 } from './bytes.mjs'
import * as primitives from './primitives.mjs'

const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'
const ALG = 'ECDH-1PU+A256KW'
const ENC = 'A256CBC-HS512'
const TYP = 'application/didcomm-encrypted+json'

export function base58(data) {
  let number = data.reduce((value, byte) => value * 256n + BigInt(byte), 0n)
  let text = ''
  for (; number > 0n; number /= 58n) text = ALPHABET[Number(number % 58n)] + text
  return '1'.repeat(data.findIndex((byte) => byte !== 0)) + text
}

export function unbase58(text) {
  let number = 0n
  for (const letter of text) {
    const digit = ALPHABET.indexOf(letter)
    if (digit < 0) throw new Error('no base58')
    number = number * 58n + BigInt(digit)
  }
  const bytes = []
  for (; number > 0n; number >>= 8n) bytes.unshift(Number(number & 255n))
  return Uint8Array.from(bytes)
}

export const canonical = (did) => (did.startsWith('did:peer:4') ? did.split(':').slice(0, 3).join(':') : did)

export const didOf = (url) => url.split('#')[0]

export const canonicalKid = (kid) => `${canonical(didOf(kid))}#${kid.split('#')[1]}`

const multikey = (codec, key) => 'z' + base58(concat(codec, key))
const X25519_CODEC = Uint8Array.of(0xec, 0x01)
const P256_CODEC = Uint8Array.of(0x80, 0x24)

function keyOf(text) {
  const data = unbase58(text.slice(1))
  for (const codec of [X25519_CODEC, P256_CODEC]) if (equal(data.slice(0, 2), codec)) return data.slice(2)
  throw new Error('a key of another kind')
}

// A party with one X25519 key: did, the id of that key as the envelope writes it, and both halves.
export async function identity(method = 'did:peer:4', services = []) {
  const secret = primitives.random(32)
  const key = await primitives.x25519Public(secret)
  const text = multikey(X25519_CODEC, key)
  if (method === 'did:key') return { did: `did:key:${text}`, kid: `did:key:${text}#${text}`, secret, key }
  const document = {
    '@context': ['https://www.w3.org/ns/did/v1', 'https://w3id.org/security/multikey/v1'],
    verificationMethod: [{ id: '#key-1', type: 'Multikey', publicKeyMultibase: text }],
    authentication: [],
    keyAgreement: ['#key-1'],
    service: services
  }
  const encoded = 'z' + base58(concat(Uint8Array.of(0x80, 0x04), utf8(JSON.stringify(document))))
  const digest = concat(Uint8Array.of(0x12, 0x20), await primitives.sha256(utf8(encoded)))
  const did = `did:peer:4z${base58(digest)}:${encoded}`
  return { did, kid: `${did}#key-1`, secret, key }
}

// The first keyAgreement key of a DID: its id, in the form of the DID given, and its bytes.
export async function resolve(did) {
  if (did.startsWith('did:key:')) {
    const text = did.slice('did:key:'.length)
    return { did, kid: `${did}#${text}`, key: keyOf(text) }
  }
  if (did.startsWith('did:peer:2')) {
    // Keys are numbered in their order, whatever they are for; E agrees.
    const keys = did.split('.').slice(1).filter((element) => element[0] !== 'S')
    const index = keys.findIndex((element) => element[0] === 'E')
    return { did, kid: `${did}#key-${index + 1}`, key: keyOf(keys[index].slice(1)) }
  }
  const [, , short, encoded] = did.split(':')
  const digest = concat(Uint8Array.of(0x12, 0x20), await primitives.sha256(utf8(encoded)))
  if (short !== `4z${base58(digest)}`) throw new Error('the hash of a did:peer:4 does not fit')
  const data = unbase58(encoded.slice(1))
  if (!equal(data.slice(0, 2), Uint8Array.of(0x80, 0x04))) throw new Error('a did:peer:4 of another codec')
  const document = JSON.parse(new TextDecoder().decode(data.slice(2)))
  const [reference] = document.keyAgreement
  const method = document.verificationMethod.find((item) => item.id === reference)
  return { did, kid: did + reference, key: keyOf(method.publicKeyMultibase) }
}

// ConcatKDF of RFC 7518, section 4.6.2, with the tag as section 2.3 of the draft has it: one round of SHA-256.
async function kek(ze, zs, apu, apv, tag) {
  const info = concat(lp(utf8(ALG)), lp(apu), lp(apv), uint(256, 4), lp(tag))
  return primitives.sha256(concat(uint(1, 4), ze, zs, info))
}

async function cbcTag(cek, aad, iv, ciphertext) {
  const tag = await primitives.hmac(
    cek.slice(0, 32),
    concat(aad, iv, ciphertext, uint(aad.length * 8, 8)),
    'SHA-512'
  )
  return tag.slice(0, 32)
}

export async function pack(message, me, recipient) {
  const secret = primitives.random(32)
  const epk = { kty: 'OKP', crv: 'X25519', x: b64url(await primitives.x25519Public(secret)) }
  const apu = utf8(me.kid)
  const apv = await primitives.sha256(utf8(recipient.kid))
  const header = { typ: TYP, alg: ALG, enc: ENC, skid: me.kid, apu: b64url(apu), apv: b64url(apv), epk }
  const encoded = b64url(utf8(JSON.stringify(header)))
  const [cek, iv] = [primitives.random(64), primitives.random(16)]
  const ciphertext = await primitives.aesCbc('encrypt', cek.slice(32), iv, utf8(JSON.stringify(message)))
  const tag = await cbcTag(cek, utf8(encoded), iv, ciphertext)
  const [ze, zs] = [await primitives.x25519(secret, recipient.key), await primitives.x25519(me.secret, recipient.key)]
  const wrapped = await primitives.wrapKey(await kek(ze, zs, apu, apv, tag), cek)
  return {
    protected: encoded,
    recipients: [{ header: { kid: recipient.kid }, encrypted_key: b64url(wrapped) }],
    iv: b64url(iv),
    ciphertext: b64url(ciphertext),
    tag: b64url(tag)
  }
}

// The message, and the key that authenticates it.
export async function unpack(envelope, me) {
  const header = JSON.parse(new TextDecoder().decode(unb64url(envelope.protected)))
  if (header.alg !== ALG || header.enc !== ENC) throw new Error('no authcrypt')
  const recipient = envelope.recipients.find((item) => canonicalKid(item.header.kid) === canonicalKid(me.kid))
  const sender = await resolve(didOf(header.skid))
  if (canonicalKid(sender.kid) !== canonicalKid(header.skid)) throw new Error('a key that the sender does not have')
  const [apu, apv, iv] = [unb64url(header.apu), unb64url(header.apv), unb64url(envelope.iv)]
  const [ciphertext, tag] = [unb64url(envelope.ciphertext), unb64url(envelope.tag)]
  const ze = await primitives.x25519(me.secret, unb64url(header.epk.x))
  const zs = await primitives.x25519(me.secret, sender.key)
  const cek = await primitives.unwrapKey(await kek(ze, zs, apu, apv, tag), unb64url(recipient.encrypted_key))
  if (!equalSecret(tag, await cbcTag(cek, utf8(envelope.protected), iv, ciphertext))) throw new Error('not authentic')
  const plaintext = await primitives.aesCbc('decrypt', cek.slice(32), iv, ciphertext)
  const message = JSON.parse(new TextDecoder().decode(plaintext))
  if (canonical(message.from) !== canonical(sender.did)) throw new Error('`from` is not the sender')
  return { message, sender }
}
