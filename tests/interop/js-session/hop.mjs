// Section 13: hop frames and BIND.

import { Refused, bigint, concat, hex, uint, utf8 } from './bytes.mjs'
import { ed25519Public, ed25519Sign, ed25519Verify } from './primitives.mjs'

const MALFORMED = 'e.p.relay.frame'
const SIZES = { 2: 128, 3: 4, 4: 1, 5: 4, 6: 1, 7: 8, 8: 8 }

export function decode(frame) {
  if (frame.length < 5) throw new Refused(MALFORMED)
  const [kind, channel, payload] = [frame[0], Number(bigint(frame.slice(1, 5))), frame.slice(5)]
  if (kind === 1) return { type: 'DATA', channel, packet: payload }
  if (payload.length !== SIZES[kind]) throw new Refused(MALFORMED)
  const number = payload.length <= 4 ? Number(bigint(payload)) : 0
  const [capability, rebind_key, signature] = [payload.slice(0, 32), payload.slice(32, 64), payload.slice(64)]
  if (kind === 2) return { type: 'BIND', channel, capability, rebind_key, signature }
  if (kind === 3) return { type: 'BOUND', channel, credit: number }
  if (kind === 4 && number >= 1 && number <= 4) return { type: 'UNBOUND', channel, reason: number }
  if (kind === 5) return { type: 'CREDIT', channel, bytes: number }
  if (kind === 6 && number >= 1 && number <= 8) return { type: 'ERROR', channel, code: number }
  if (kind >= 7 && channel === 0) return { type: kind === 7 ? 'PING' : 'PONG', token: payload }
  throw new Refused(MALFORMED)
}

export const encodeData = (channel, packet) => concat(Uint8Array.of(1), uint(channel, 4), packet)

export const encodePing = (token) => concat(Uint8Array.of(7), uint(0, 4), token)

export const encodePong = (token) => concat(Uint8Array.of(8), uint(0, 4), token)

const signedBy = (exporter, capability) => concat(utf8('didmpc relay/1.0 bind\0'), exporter, capability)

export async function bind(channel, capability, rebindSecret, exporter) {
  const signature = await ed25519Sign(rebindSecret, signedBy(exporter, capability))
  return concat(Uint8Array.of(2), uint(channel, 4), capability, await ed25519Public(rebindSecret), signature)
}

export async function verifyBind(frame, exporter) {
  let holds = false
  try {
    holds = await ed25519Verify(frame.rebind_key, frame.signature, signedBy(exporter, frame.capability))
  } catch (error) {
    if (!(error instanceof DOMException)) throw error // a key that is no point
  }
  if (!holds) throw new Refused('e.p.relay.proof')
}

export const shown = (frame) =>
  Object.fromEntries(
    Object.entries(frame).map(([name, value]) => [name, value instanceof Uint8Array ? hex(value) : value])
  )
