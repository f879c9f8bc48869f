// Section 5: `open` and `accept`, of the suite X25519-HKDFSHA256-A256GCM.

import { Refused, b64url, equalSecret, isObject, jsonObject, sameJson, unb64url, utf8 } from './bytes.mjs'
import { random, x25519, x25519Public } from './primitives.mjs'
import * as schedule from './schedule.mjs'

export const SUITE = 'X25519-HKDFSHA256-A256GCM'
const HYBRID = 'X25519MLKEM768-HKDFSHA256-A256GCM'
const HS = 'e.p.session.hs'
const NO_SUITE = 'e.p.session.suite'
const ROSTER = 'e.p.session.roster'
const POLICY = 'e.p.session.policy'
const CRYPTO = 'e.p.trust.crypto'

const need = (condition, code = HS) => {
  if (!condition) throw new Refused(code)
}

const isList = (value, most = 32) => Array.isArray(value) && value.length <= most
const isNames = (value) => isList(value) && value.every((name) => typeof name === 'string' && name.length <= 100)

function readHs(text, message) {
  need(typeof text === 'string' && text.length > 0 && text.length <= 32768)
  const hello = jsonObject(unb64url(text, HS), HS)
  need(hello.v === 1, NO_SUITE)
  if (message === 'open') need(isNames(hello.suites) && isNames(hello.wire))
  else need(typeof hello.suite === 'string' && typeof hello.wire === 'string')
  const bytes = { e: unb64url(hello.e, HS, 32), k: unb64url(hello.k, HS, 32), sid: unb64url(hello.sid, HS, 8) }
  const kem = message === 'open' ? ['kem_pk', 1184] : ['kem_ct', 1088]
  for (const [name, size] of [kem, ['continues', 32]]) {
    bytes[name] = Object.hasOwn(hello, name) ? unb64url(hello[name], HS, size) : null
  }
  need(hello.link === null || isObject(hello.link))
  for (const name of ['kid_i', 'kid_r']) need(typeof hello[name] === 'string' && hello[name].length > 0 && hello[name].length <= 9216)
  for (const name of ['limits', 'policy']) need(isObject(hello[name]) && Object.keys(hello[name]).length <= 32)
  need(Object.values(hello.limits).every((limit) => Number.isSafeInteger(limit) && limit > 0))
  need(isList(hello.caps))
  return { ...hello, ...bytes }
}

async function sharedSecret(secret, publicKey) {
  const ee = await x25519(secret, publicKey)
  need(ee !== null, CRYPTO)
  return ee
}

async function derive({ parties, openId, hsI, hsR, ee, kI, kR, wire, continues }) {
  const [i, r] = parties
  const th = await schedule.transcript([i.did, r.did, i.kid, i.key, r.kid, r.key, openId, hsI, hsR])
  const ikm = schedule.material(new Uint8Array(), ee, kI, kR, await schedule.continuationKey(continues))
  const prk = await schedule.extract(SUITE, ikm)
  const form = wire === 'json' ? 'json ' : ''
  return {
    th,
    ikm,
    prk,
    confirm: await schedule.output(prk, 'confirm r', th),
    exporter: await schedule.output(prk, 'exp', th),
    i2r: await schedule.output(prk, form + 'i2r', th),
    r2i: await schedule.output(prk, form + 'r2i', th)
  }
}

const hsOf = (hello) => b64url(utf8(JSON.stringify(hello)))

// A party is {did, kid, key}: canonical DID, canonical id of its keyAgreement key, and that key's bytes.
export class Initiation {
  static async start(me, peer, openId, options) {
    const self = new Initiation()
    const { link = null, wires = ['binary'], continues = null, draws = {} } = options
    self.secret = draws.e ?? random(32)
    self.k = draws.k ?? random(32)
    self.sid = draws.sid ?? random(8)
    Object.assign(self, { parties: [me, peer], openId, link, wires, continues })
    const proof = continues && { continues: b64url(await schedule.continuation(continues, 'i', openId)) }
    self.hs = hsOf({
      v: 1,
      suites: [SUITE],
      wire: wires,
      e: b64url(await x25519Public(self.secret)),
      k: b64url(self.k),
      sid: b64url(self.sid),
      link,
      kid_i: me.kid,
      kid_r: peer.kid,
      limits: {},
      policy: {},
      caps: [],
      ...proof
    })
    return self
  }

  // Of a test vector: the text stands already.
  static fromVector(parties, openId, hs, { e, k, sid, continues }) {
    const hello = readHs(hs, 'open')
    return Object.assign(new Initiation(), {
      parties,
      openId,
      hs,
      secret: e,
      k,
      sid,
      continues,
      link: hello.link,
      wires: hello.wire,
      suites: hello.suites
    })
  }

  async finish(body) {
    const hello = readHs(body.hs, 'accept')
    const confirm = unb64url(body.confirm, HS, 32)
    const suites = this.suites ?? [SUITE]
    need(suites.includes(hello.suite) && this.wires.includes(hello.wire), NO_SUITE)
    need((hello.suite === HYBRID) === (hello.kem_ct !== null), NO_SUITE)
    const [i, r] = this.parties
    need(hello.kid_i === i.kid && hello.kid_r === r.kid, CRYPTO)
    need(sameJson(hello.link, this.link), ROSTER)
    if (this.continues === null) need(hello.continues === null, POLICY)
    else {
      const expected = await schedule.continuation(this.continues, 'r', this.openId)
      need(hello.continues !== null && equalSecret(hello.continues, expected), POLICY)
    }
    const keys = await derive({
      parties: this.parties,
      openId: this.openId,
      hsI: this.hs,
      hsR: body.hs,
      ee: await sharedSecret(this.secret, hello.e),
      kI: this.k,
      kR: hello.k,
      wire: hello.wire,
      continues: this.continues
    })
    need(equalSecret(keys.confirm, confirm), CRYPTO)
    return {
      role: 'initiator',
      wire: hello.wire,
      sidIn: this.sid,
      sidOut: hello.sid,
      send: keys.i2r,
      receive: keys.r2i,
      caps: hello.caps,
      ...keys
    }
  }
}

// Answer an `open`: the body of the `accept`, and the session. `exporters` are those of the link's sessions.
export async function respond(me, peer, openId, body, options) {
  const { link = null, wires = ['binary'], exporters = [], caps = [], draws = {} } = options
  need(me.did !== peer.did, POLICY)
  const hello = readHs(body.hs, 'open')
  need(hello.suites.includes(HYBRID) === (hello.kem_pk !== null), NO_SUITE)
  let proof = {}
  let continued = null
  if (hello.continues === null) need(exporters.length === 0, ROSTER)
  else {
    need(exporters.length > 0, ROSTER)
    for (const exporter of exporters) {
      if (equalSecret(hello.continues, await schedule.continuation(exporter, 'i', openId))) continued = exporter
    }
    need(continued !== null, POLICY)
    proof = { continues: b64url(await schedule.continuation(continued, 'r', openId)) }
  }
  need(hello.kid_i === peer.kid && hello.kid_r === me.kid, CRYPTO)
  const stated = hello.link ?? {}
  if (Object.hasOwn(stated, 'pid_i') || Object.hasOwn(stated, 'pid_r')) {
    const { pid_i: lower, pid_r: higher } = stated
    need(Number.isSafeInteger(lower) && Number.isSafeInteger(higher) && lower >= 0 && lower < higher, ROSTER)
  }
  for (const [name, value] of Object.entries(link ?? {})) need(sameJson(stated[name], value), ROSTER)
  need(hello.suites.includes(SUITE), NO_SUITE)
  const wire = hello.wire.find((name) => wires.includes(name))
  need(wire !== undefined, NO_SUITE)

  const secret = draws.e ?? random(32)
  const k = draws.k ?? random(32)
  const sid = draws.sid ?? random(8)
  const ee = await sharedSecret(secret, hello.e)
  const hs =
    draws.hs ??
    hsOf({
      v: 1,
      suite: SUITE,
      wire,
      e: b64url(await x25519Public(secret)),
      k: b64url(k),
      sid: b64url(sid),
      link: hello.link,
      kid_i: peer.kid,
      kid_r: me.kid,
      limits: {},
      policy: {},
      caps,
      ...proof
    })
  const keys = await derive({
    parties: [peer, me],
    openId,
    hsI: body.hs,
    hsR: hs,
    ee,
    kI: hello.k,
    kR: k,
    wire,
    continues: continued
  })
  return {
    accept: { hs, confirm: b64url(keys.confirm) },
    session: {
      role: 'responder',
      wire,
      sidIn: sid,
      sidOut: hello.sid,
      send: keys.r2i,
      receive: keys.i2r,
      caps: hello.caps,
      ...keys
    }
  }
}
