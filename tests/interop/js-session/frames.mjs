// Section 8: frames and padding. u64 are bigint.

import { Refused, bigint, concat, jsonObject, uint, utf8 } from './bytes.mjs'

const VIOLATION = 'e.p.session.frame'
export const LARGEST_DATA = 262127

const json = (value) => {
  const text = utf8(JSON.stringify(value))
  return concat(uint(text.length, 2), text)
}

const u8 = (...values) => Uint8Array.from(values)

export function encode(frame) {
  switch (frame.type) {
    case 'RECORD':
      return concat(u8(1), uint(frame.number, 8), uint(frame.start, 4), uint(frame.data.length, 4), frame.data)
    case 'READY':
      return u8(2)
    case 'ACK': {
      const flags = (frame.closed ? 1 : 0) | (frame.contacts ? 2 : 0)
      const ranges = frame.ranges.map(([first, end]) => concat(uint(first, 8), uint(end, 8)))
      return concat(u8(3, flags), uint(frame.packet, 8), uint(frame.next, 8), u8(ranges.length), ...ranges)
    }
    case 'PING':
    case 'PONG':
      return concat(u8(frame.type === 'PING' ? 4 : 5), uint(frame.id, 4), json(frame.state))
    case 'CLOSE':
      return concat(u8(6), uint(frame.records, 8))
    case 'ABORT':
      return concat(u8(7), json(frame.cause))
    case 'CONTACT':
      return concat(u8(8), uint(frame.proofs.length, 2), ...frame.proofs)
  }
  throw new Error(`no frame ${frame.type}`)
}

class Reader {
  constructor(data) {
    this.data = data
    this.at = 0
  }

  take(size) {
    if (this.at + size > this.data.length) throw new Refused(VIOLATION)
    this.at += size
    return this.data.slice(this.at - size, this.at)
  }

  long() {
    return bigint(this.take(8))
  }

  number(size) {
    return Number(bigint(this.take(size)))
  }

  object() {
    const length = this.number(2)
    if (length > 4096) throw new Refused(VIOLATION)
    return jsonObject(this.take(length), VIOLATION)
  }
}

const readers = {
  1: (reader) => {
    const [number, start, length] = [reader.long(), reader.number(4), reader.number(4)]
    if (length > LARGEST_DATA) throw new Refused(VIOLATION)
    return { type: 'RECORD', number, start, data: reader.take(length) }
  },
  2: () => ({ type: 'READY' }),
  3: (reader) => {
    const [flags, packet, next, count] = [reader.number(1), reader.long(), reader.long(), reader.number(1)]
    if (flags > 3 || count > 32) throw new Refused(VIOLATION)
    const ranges = []
    let last = next
    for (let index = 0; index < count; index++) {
      const [first, end] = [reader.long(), reader.long()]
      if (!(last < first && first < end)) throw new Refused(VIOLATION)
      ranges.push([first, end])
      last = end
    }
    return { type: 'ACK', closed: (flags & 1) === 1, contacts: (flags & 2) === 2, packet, next, ranges }
  },
  4: (reader) => ({ type: 'PING', id: reader.number(4), state: reader.object() }),
  5: (reader) => ({ type: 'PONG', id: reader.number(4), state: reader.object() }),
  6: (reader) => ({ type: 'CLOSE', records: reader.long() }),
  7: (reader) => ({ type: 'ABORT', cause: reader.object() }),
  8: (reader) => {
    const count = reader.number(2)
    if (![16, 64, 256, 1024].includes(count)) throw new Refused(VIOLATION)
    return { type: 'CONTACT', proofs: Array.from({ length: count }, () => reader.take(32)) }
  }
}

export function decode(plaintext) {
  const reader = new Reader(plaintext)
  const frames = []
  const once = new Set()
  while (reader.at < plaintext.length) {
    const kind = reader.number(1)
    if (kind === 0) break
    if (!Object.hasOwn(readers, kind)) throw new Refused(VIOLATION)
    const frame = readers[kind](reader)
    if (once.has(frame.type)) throw new Refused(VIOLATION)
    if (!['RECORD', 'READY'].includes(frame.type)) once.add(frame.type)
    frames.push(frame)
  }
  return frames
}

export function paddedLength(length) {
  if (length < 1024) return Math.ceil(length / 64) * 64
  const exponent = 31 - Math.clz32(length)
  const step = 2 ** (exponent - (31 - Math.clz32(exponent)) - 1)
  return Math.ceil(length / step) * step
}

export function pad(data) {
  return concat(data, new Uint8Array(paddedLength(data.length) - data.length))
}
