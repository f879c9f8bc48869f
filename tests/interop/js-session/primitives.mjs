// What WebCrypto gives: nothing else is used for keys.

import { concat, unb64url } from './bytes.mjs'

const { subtle } = globalThis.crypto
// PKCS #8 of RFC 8410 around 32 raw bytes.
const pkcs8 = (oid) => new Uint8Array([0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, oid, 4, 0x22, 4, 0x20])
const X25519 = 0x6e
const ED25519 = 0x70

export const random = (size) => globalThis.crypto.getRandomValues(new Uint8Array(size))

export const sha256 = async (data) => new Uint8Array(await subtle.digest('SHA-256', data))

export async function hmac(key, data, hash = 'SHA-256') {
  const imported = await subtle.importKey('raw', key, { name: 'HMAC', hash }, false, ['sign'])
  return new Uint8Array(await subtle.sign('HMAC', imported, data))
}

// HKDF-Expand alone (RFC 5869, section 2.3): WebCrypto's HKDF always extracts first.
export async function expand(secret, info, size) {
  let out = new Uint8Array()
  let block = new Uint8Array()
  for (let counter = 1; out.length < size; counter++) {
    block = await hmac(secret, concat(block, info, Uint8Array.of(counter)))
    out = concat(out, block)
  }
  return out.slice(0, size)
}

export async function x25519Public(secret) {
  const key = await subtle.importKey('pkcs8', concat(pkcs8(X25519), secret), { name: 'X25519' }, true, ['deriveBits'])
  return unb64url((await subtle.exportKey('jwk', key)).x)
}

// The shared secret of 32 bytes, or null where it would be all zero.
export async function x25519(secret, publicKey) {
  const mine = await subtle.importKey('pkcs8', concat(pkcs8(X25519), secret), { name: 'X25519' }, false, ['deriveBits'])
  const theirs = await subtle.importKey('raw', publicKey, { name: 'X25519' }, false, [])
  try {
    const shared = new Uint8Array(await subtle.deriveBits({ name: 'X25519', public: theirs }, mine, 256))
    return shared.some((byte) => byte !== 0) ? shared : null
  } catch (error) {
    if (error.name === 'OperationError') return null
    throw error
  }
}

export async function ed25519Public(secret) {
  const key = await subtle.importKey('pkcs8', concat(pkcs8(ED25519), secret), { name: 'Ed25519' }, true, ['sign'])
  return unb64url((await subtle.exportKey('jwk', key)).x)
}

export async function ed25519Sign(secret, data) {
  const key = await subtle.importKey('pkcs8', concat(pkcs8(ED25519), secret), { name: 'Ed25519' }, false, ['sign'])
  return new Uint8Array(await subtle.sign('Ed25519', key, data))
}

export async function ed25519Verify(publicKey, signature, data) {
  const key = await subtle.importKey('raw', publicKey, { name: 'Ed25519' }, false, ['verify'])
  return subtle.verify('Ed25519', key, signature, data)
}

// AES-256-GCM under one key; `open` gives null for what is not authentic.
export class Gcm {
  constructor(key) {
    this.key = subtle.importKey('raw', key, 'AES-GCM', false, ['encrypt', 'decrypt'])
  }

  async seal(iv, plaintext, additionalData) {
    return new Uint8Array(await subtle.encrypt({ name: 'AES-GCM', iv, additionalData }, await this.key, plaintext))
  }

  async open(iv, sealed, additionalData) {
    try {
      return new Uint8Array(await subtle.decrypt({ name: 'AES-GCM', iv, additionalData }, await this.key, sealed))
    } catch (error) {
      if (error.name === 'OperationError') return null
      throw error
    }
  }
}

export async function aesCbc(direction, key, iv, data) {
  const imported = await subtle.importKey('raw', key, 'AES-CBC', false, [direction])
  return new Uint8Array(await subtle[direction]({ name: 'AES-CBC', iv }, imported, data))
}

export async function wrapKey(kek, key) {
  const wrapping = await subtle.importKey('raw', kek, 'AES-KW', false, ['wrapKey'])
  const wrapped = await subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-512' }, true, ['sign'])
  return new Uint8Array(await subtle.wrapKey('raw', wrapped, wrapping, 'AES-KW'))
}

export async function unwrapKey(kek, wrapped) {
  const wrapping = await subtle.importKey('raw', kek, 'AES-KW', false, ['unwrapKey'])
  const algorithm = { name: 'HMAC', hash: 'SHA-512' }
  const key = await subtle.unwrapKey('raw', wrapped, wrapping, 'AES-KW', algorithm, true, ['sign'])
  return unb64url((await subtle.exportKey('jwk', key)).k)
}

