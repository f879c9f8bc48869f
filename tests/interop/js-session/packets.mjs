// Sections 6 and 8: packets in both forms, epochs, replay.

import { Refused, b64url, bigint, concat, equal, jsonObject, sameJson, uint, unb64url, utf8 } from './bytes.mjs'
import { Gcm } from './primitives.mjs'
import { epoch as epochOf, nonce as nonceOf } from './schedule.mjs'

const MALFORMED = 'e.p.session.packet'
const UNKNOWN = 'e.p.session.unknown'
const REPLAY = 'e.p.session.replay'
const EPOCH = 'e.p.session.epoch'
const CRYPTO = 'e.p.trust.crypto'
const TYP = 'application/didcomm-encrypted+json'
const WINDOW = 16384n
const LARGEST = 1048576

export class Sealer {
  constructor(secret, sid, wire, { epochPackets = 1n << 20n, ordered = false } = {}) {
    Object.assign(this, { sid, wire, epochPackets, ordered, next: secret, epoch: -1, number: 0n, acknowledged: -1n })
  }

  async step() {
    const { key, iv, next } = await epochOf(this.next)
    Object.assign(this, { gcm: new Gcm(key), iv, next, epoch: this.epoch + 1, first: this.number })
  }

  // The number is used up before anything can go wrong.
  async seal(plaintext) {
    const isDue = this.epoch >= 0 && this.number - this.first >= this.epochPackets
    if (this.epoch < 0 || (isDue && (this.ordered ? this.number - 1n : this.acknowledged) >= this.first)) await this.step()
    const number = this.number++
    const nonce = nonceOf(this.iv, number)
    if (this.wire === 'binary') {
      const header = concat(Uint8Array.of(1), this.sid, uint(this.epoch, 4), uint(number, 8))
      return concat(header, await this.gcm.seal(nonce, plaintext, header))
    }
    const kid = `${b64url(this.sid)}.${this.epoch}`
    const encoded = b64url(utf8(JSON.stringify({ alg: 'dir', enc: 'A256GCM', kid, typ: TYP })))
    const sealed = await this.gcm.seal(nonce, plaintext, utf8(encoded))
    return utf8(
      JSON.stringify({
        protected: encoded,
        recipients: [{}],
        iv: b64url(nonce),
        ciphertext: b64url(sealed.slice(0, -16)),
        tag: b64url(sealed.slice(-16))
      })
    )
  }
}

function readBinary(packet) {
  if (packet.length < 37 || packet.length > LARGEST) throw new Refused(MALFORMED)
  if (packet[0] !== 1) throw new Refused(UNKNOWN)
  return {
    sid: packet.slice(1, 9),
    epoch: Number(bigint(packet.slice(9, 13))),
    number: bigint(packet.slice(13, 21)),
    associated: packet.slice(0, 21),
    sealed: packet.slice(21)
  }
}

function readJson(packet) {
  if (packet.length > LARGEST) throw new Refused(MALFORMED)
  const outer = jsonObject(packet, MALFORMED)
  const names = Object.keys(outer).sort().join()
  if (names !== 'ciphertext,iv,protected,recipients,tag' || !sameJson(outer.recipients, [{}])) throw new Refused(MALFORMED)
  const { kid, ...header } = jsonObject(unb64url(outer.protected, MALFORMED), MALFORMED)
  if (!sameJson(header, { alg: 'dir', enc: 'A256GCM', typ: TYP }) || typeof kid !== 'string') throw new Refused(MALFORMED)
  const match = /^([A-Za-z0-9_-]{11})\.(0|[1-9][0-9]{0,9})$/.exec(kid)
  if (match === null || Number(match[2]) > 0xffffffff) throw new Refused(MALFORMED)
  return {
    sid: unb64url(match[1], MALFORMED, 8),
    epoch: Number(match[2]),
    nonce: unb64url(outer.iv, MALFORMED, 12),
    associated: utf8(outer.protected),
    sealed: concat(unb64url(outer.ciphertext, MALFORMED), unb64url(outer.tag, MALFORMED, 16))
  }
}

export const read = (packet) => (packet[0] === 0x7b ? readJson(packet) : readBinary(packet))

export class Opener {
  constructor(secret, sid, wire) {
    Object.assign(this, { sid, wire, derived: -1, next: secret, keys: new Map(), epoch: 0, highest: -1n, opened: new Set() })
  }

  // Keys of e-1, e and e+1 exist, and no others.
  async keysOf(epoch) {
    if (epoch > this.epoch + 1 || epoch < this.epoch - 1) throw new Refused(EPOCH)
    while (this.derived < epoch) {
      const { key, iv, next } = await epochOf(this.next)
      this.next = next
      this.keys.set(++this.derived, { gcm: new Gcm(key), iv })
    }
    return this.keys.get(epoch)
  }

  refuseOld(number) {
    const isOld = number <= this.highest && (this.highest - number >= WINDOW || this.opened.has(number))
    if (isOld) throw new Refused(REPLAY)
  }

  async open(packet) {
    const parts = this.wire === 'binary' ? readBinary(packet) : readJson(packet)
    if (!equal(parts.sid, this.sid)) throw new Refused(UNKNOWN)
    if (this.wire === 'binary') this.refuseOld(parts.number)
    const { gcm, iv } = await this.keysOf(parts.epoch)
    let { number, nonce } = parts
    if (this.wire === 'binary') nonce = nonceOf(iv, number)
    else {
      if (!equal(nonce.slice(0, 4), iv.slice(0, 4))) throw new Refused(CRYPTO)
      number = bigint(nonce.slice(4)) ^ bigint(iv.slice(4))
      this.refuseOld(number)
    }
    const plaintext = await gcm.open(nonce, parts.sealed, parts.associated)
    if (plaintext === null) throw new Refused(CRYPTO)
    this.remember(number, parts.epoch)
    return plaintext
  }

  remember(number, epoch) {
    this.opened.add(number)
    if (number > this.highest) {
      this.highest = number
      for (const old of this.opened) if (number - old >= WINDOW) this.opened.delete(old)
    }
    if (epoch > this.epoch) {
      this.epoch = epoch
      this.keys.delete(epoch - 2)
    }
  }
}
