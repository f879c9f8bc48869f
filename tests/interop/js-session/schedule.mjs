// Section 7: the key schedule.

import { concat, lp, uint, utf8 } from './bytes.mjs'
import { expand, hmac, sha256 } from './primitives.mjs'

const NAME = 'didmpc session/1.0'

// Parts are texts or bytes: did_i, did_r, kid_i, pub_i, kid_r, pub_r, id of the open, hs_i, hs_r.
export const transcript = (parts) =>
  sha256(concat(utf8(NAME), ...parts.map((part) => lp(typeof part === 'string' ? utf8(part) : part))))

export const material = (kem, ee, kI, kR, continued) => concat(lp(kem), ee, kI, kR, continued)

export const extract = (suite, ikm) => hmac(utf8(`${NAME} ${suite}`), ikm)

export const output = (prk, label, th) => expand(prk, concat(utf8(`didmpc s1 ${label}\0`), th), 32)

export const exported = (exporter, label, size) => expand(exporter, utf8(`didmpc s1 export ${label}\0`), size)

// Of the session that is continued, or of none (null).
export const continuationKey = async (exporter) =>
  exporter === null ? new Uint8Array() : exported(exporter, 'continue', 32)

export const continuation = async (exporter, role, openId) =>
  hmac(await continuationKey(exporter), utf8(role + openId))

export const contactProof = (secret, role, exporter) =>
  hmac(secret, concat(utf8(`didmpc s1 contact ${role}\0`), exporter))

export async function epoch(secret) {
  const [key, iv, next] = await Promise.all([
    expand(secret, utf8('key'), 32),
    expand(secret, utf8('iv'), 12),
    expand(secret, utf8('next'), 32)
  ])
  return { key, iv, next }
}

export function nonce(iv, number) {
  const out = iv.slice()
  uint(number, 8).forEach((byte, index) => (out[4 + index] ^= byte))
  return out
}
