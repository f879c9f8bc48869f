// Section 9: a link. Packets and `now` (seconds) come in, events and packets come out; the caller awaits each call.

import { Refused, concat, equal } from './bytes.mjs'
import { LARGEST_DATA, decode, encode, pad } from './frames.mjs'
import { Opener, Sealer, read } from './packets.mjs'

const VIOLATION = 'e.p.session.frame'
const PACKET = 65536
const LIMITS = { window_records: 8192, window_bytes: 32 * 1024 * 1024 }
const PING_EVERY = 1
const RESEND_AFTER = 1
const RETIRED_FOR = 60

class Session {
  constructor(established, epochPackets) {
    this.wire = established.wire
    this.sid = established.sidIn
    this.initiator = established.role === 'initiator'
    this.heard = false
    this.sealer = new Sealer(established.send, established.sidOut, established.wire, { epochPackets })
    this.opener = new Opener(established.receive, established.sidIn, established.wire)
    this.sealed = () => this.sealer?.number ?? this.last
  }

  // From now on it only opens what is still on its way.
  retire() {
    this.last = this.sealer.number
    this.sealer = null
  }
}

export class Link {
  constructor(established, { epochPackets = 1n << 20n, state = {}, limits = LIMITS } = {}) {
    Object.assign(this, { epochPackets, state, windowRecords: BigInt(limits.window_records), windowBytes: limits.window_bytes })
    this.session = new Session(established, epochPackets)
    this.proposed = this.retired = null
    this.retiredUntil = this.proposeAt = Infinity
    this.up = new Set()
    // Records on their way out: those not sent yet, and those in flight by number.
    this.nextOut = 0n
    this.queue = []
    this.flight = new Map()
    this.flightBytes = 0
    this.lowest = 0n
    this.again = []
    this.backOff = 1
    // Records on their way in.
    this.nextIn = 0n
    this.early = new Map()
    this.earlyBytes = 0
    this.highestIn = -1n
    this.total = null
    this.delivered = false
    // Control.
    this.due = new Set()
    this.ackAt = this.pingAt = Infinity
    this.unacknowledged = 0
    this.pingId = 0
    this.pings = new Map()
    this.pong = null
    this.rtt = 0
    this.closing = this.closeHeard = false
    this.contacts = null
    this.contactsCame = false
    this.abortCause = null
    this.aborted = false
    this.resent = 0
  }

  // --- the application

  send(start, data) {
    if (this.closing) throw new Error('a closed link cannot send')
    for (let at = 0; at === 0 || at < data.length; at += LARGEST_DATA) {
      const piece = data.slice(at, at + LARGEST_DATA)
      this.queue.push({ type: 'RECORD', number: this.nextOut++, start, data: piece, sentAt: -Infinity })
    }
  }

  close() {
    this.closing = true
    this.due.add('CLOSE')
  }

  abort(cause) {
    this.abortCause = cause
    this.due.add('ABORT')
    this.queue = []
    this.flight.clear()
    this.again = []
  }

  offerContacts(proofs) {
    this.contacts = proofs
    this.due.add('CONTACT')
  }

  renew(established, now) {
    if (!this.session.heard) throw new Error('the peer was not heard in the present session')
    this.proposed = new Session(established, this.epochPackets)
    this.proposeAt = this.proposed.initiator ? now : Infinity
  }

  // --- paths

  pathUp(wire, now) {
    this.up.add(wire)
    if (wire === this.session.wire) this.resetPath(now)
    if (this.proposeAt < Infinity) this.proposeAt = now
  }

  pathDown(wire) {
    this.up.delete(wire)
  }

  resetPath(now) {
    this.again = [...this.flight.values()]
    this.pings.clear()
    this.backOff = 1
    if (this.session.initiator || this.session.heard) this.due.add('READY')
    this.pingAt = this.ackAt = now
  }

  // --- receiving

  async receive(packet, now) {
    const { sid } = read(packet)
    const session = [this.session, this.proposed, this.retired].find((item) => item && equal(item.sid, sid))
    if (session === undefined) throw new Refused('e.p.session.unknown')
    const frames = decode(await session.opener.open(packet))
    this.check(frames, session)
    const events = []
    if (!session.heard) this.firstHeard(session, now, events)
    if (this.aborted) return events
    let records = 0
    for (const frame of frames) {
      if (frame.type === 'RECORD') {
        records++
        this.takeRecord(frame, now, events)
      } else this.takeControl(frame, session, now, events)
    }
    this.unacknowledged += records
    if (records) this.ackAt = this.unacknowledged >= 64 ? now : Math.min(this.ackAt, now + 0.1)
    if (this.total === this.nextIn && !this.delivered) {
      this.delivered = true
      events.push({ type: 'closed' })
    }
    return events
  }

  // All that can be wrong with an authentic packet, before any of it is applied.
  check(frames, session) {
    const refuse = (wrong) => {
      if (wrong) throw new Refused(VIOLATION)
    }
    const records = frames.filter((frame) => frame.type === 'RECORD')
    const close = frames.find((frame) => frame.type === 'CLOSE')
    const ack = frames.find((frame) => frame.type === 'ACK')
    let upcoming = this.nextIn
    let early = 0
    for (const { number, data } of records) {
      if (number === upcoming) upcoming++
      else if (number > upcoming) {
        refuse(number - this.nextIn >= this.windowRecords)
        early += this.early.has(number) ? 0 : data.length
      }
    }
    refuse(early > 0 && this.earlyBytes + early > this.windowBytes)
    const total = this.total ?? close?.records ?? null
    const highest = records.reduce((high, { number }) => (number > high ? number : high), this.highestIn)
    refuse(total !== null && (highest >= total || (close !== undefined && close.records !== total)))
    if (ack !== undefined) {
      const unsent = this.queue.length > 0 ? this.queue[0].number : this.nextOut
      refuse(ack.packet >= session.sealed() || ack.next > unsent || (ack.ranges.at(-1)?.[1] ?? 0n) > unsent)
    }
  }

  firstHeard(session, now, events) {
    session.heard = true
    if (session === this.proposed) {
      this.session.retire()
      this.retired = this.session
      this.retiredUntil = now + RETIRED_FOR
      const isOtherForm = this.session.wire !== session.wire
      this.session = session
      this.proposed = null
      this.proposeAt = Infinity
      if (isOtherForm && this.up.has(session.wire)) this.resetPath(now)
      events.push({ type: 'renewed' })
    } else events.push({ type: 'ready' })
    if (!session.initiator) this.due.add('READY')
    this.pingAt = this.ackAt = now
  }

  takeRecord(record, now, events) {
    if (record.number > this.highestIn) this.highestIn = record.number
    if (record.number > this.nextIn && !this.early.has(record.number)) {
      this.early.set(record.number, record)
      this.earlyBytes += record.data.length
    } else if (record.number === this.nextIn) {
      for (let next = record; next !== undefined; next = this.early.get(this.nextIn)) {
        if (this.early.delete(next.number)) this.earlyBytes -= next.data.length
        this.nextIn++
        events.push({ type: 'data', start: next.start, data: next.data })
      }
    } else this.ackAt = now // a duplicate
  }

  takeControl(frame, session, now, events) {
    switch (frame.type) {
      case 'ACK':
        if (session.sealer && frame.packet > session.sealer.acknowledged) session.sealer.acknowledged = frame.packet
        if (frame.closed && this.closing) this.closeHeard = true
        if (frame.contacts) this.contacts = null
        this.acknowledge(frame)
        break
      case 'PING':
        this.pong = frame.id
        events.push({ type: 'state', state: frame.state })
        break
      case 'PONG': {
        const sentAt = this.pings.get(frame.id)
        if (sentAt !== undefined) this.rtt = this.rtt === 0 ? now - sentAt : 0.75 * this.rtt + 0.25 * (now - sentAt)
        for (const id of this.pings.keys()) if (id <= frame.id) this.pings.delete(id)
        break
      }
      case 'CLOSE':
        this.total = frame.records
        this.ackAt = now
        break
      case 'CONTACT':
        this.ackAt = now
        if (!this.contactsCame) events.push({ type: 'contacts', proofs: frame.proofs })
        this.contactsCame = true
        break
      case 'ABORT':
        this.aborted = true
        this.queue = []
        this.flight.clear()
        events.push({ type: 'aborted', cause: frame.cause })
    }
  }

  acknowledge({ next, ranges }) {
    const before = this.flight.size
    const arrived = (number) => next > number || ranges.some(([first, end]) => first <= number && number < end)
    for (const [number, record] of this.flight) {
      if (!arrived(number)) continue
      this.flight.delete(number)
      this.flightBytes -= record.data.length + 17
    }
    if (next > this.lowest) this.lowest = next
    if (this.flight.size < before) this.backOff = 1
  }

  // --- sending

  async packets(now) {
    const out = []
    if (now >= this.retiredUntil) this.retired = null
    if (this.proposed?.initiator && this.up.has(this.proposed.wire) && now >= this.proposeAt) {
      this.proposeAt = now + PING_EVERY
      const said = [{ type: 'READY' }, { type: 'PING', id: this.pingId, state: this.state }]
      out.push(await this.proposed.sealer.seal(pad(concat(...said.map(encode)))))
    }
    const { session } = this
    if (!this.up.has(session.wire) || !(session.heard || session.initiator)) return out
    this.resend(now)
    let frames = this.control(now)
    for (;;) {
      let size = 0
      for (let record; (record = this.nextRecord(size)) !== null; size += record.data.length + 17) {
        record.sentAt = now
        frames.push(record)
      }
      if (frames.length === 0) return out
      out.push(await session.sealer.seal(pad(concat(...frames.map(encode)))))
      frames = []
    }
  }

  // The next record for a packet that has `used` bytes of them: one that may be large, or as many as fit.
  nextRecord(used) {
    const fits = (record) => used === 0 || used + record.data.length + 17 <= PACKET
    while (this.again.length > 0) {
      const [record] = this.again
      if (this.flight.has(record.number) && !fits(record)) return null
      this.again.shift()
      if (!this.flight.has(record.number)) continue
      this.resent++
      return record
    }
    const [record] = this.queue
    if (record === undefined || !fits(record)) return null
    const size = this.flightBytes + record.data.length + 17
    const isOpen = record.number - this.lowest < this.windowRecords && size <= this.windowBytes
    if (this.flight.size > 0 && !isOpen) return null
    this.queue.shift()
    this.flight.set(record.number, record)
    this.flightBytes += record.data.length + 17
    return record
  }

  resend(now) {
    const [oldestPing] = this.pings.values()
    const rtt = Math.max(this.rtt, oldestPing === undefined ? 0 : now - oldestPing)
    const after = Math.max(RESEND_AFTER, 4 * rtt + 0.1) * this.backOff
    const waiting = new Set(this.again)
    const late = [...this.flight.values()].filter((record) => record.sentAt + after <= now && !waiting.has(record))
    if (late.length === 0) return
    this.backOff = Math.min(2 * this.backOff, 64)
    this.again.push(...late)
  }

  control(now) {
    const beat = now >= this.pingAt
    if (!beat && this.due.size === 0 && this.pong === null && now < this.ackAt) return []
    const frames = []
    const say = (name, frame) => frames.push({ type: name, ...frame })
    if (this.abortCause !== null && (beat || this.due.has('ABORT'))) say('ABORT', { cause: this.abortCause })
    if (this.due.has('READY')) say('READY')
    if (this.session.heard) {
      say('ACK', this.ack())
      if (this.contacts !== null && (beat || this.due.has('CONTACT'))) say('CONTACT', { proofs: this.contacts })
    }
    if (this.pong !== null) say('PONG', { id: this.pong, state: this.state })
    if (beat) {
      say('PING', { id: this.pingId, state: this.state })
      this.pings.set(this.pingId, now)
      this.pingId = (this.pingId + 1) >>> 0
      this.pingAt = now + PING_EVERY
    }
    if (this.closing && !this.closeHeard && (beat || this.due.has('CLOSE'))) say('CLOSE', { records: this.nextOut })
    this.due.clear()
    this.pong = null
    this.ackAt = Infinity
    this.unacknowledged = 0
    return frames
  }

  ack() {
    const ranges = []
    for (const number of [...this.early.keys()].sort((a, b) => (a < b ? -1 : 1))) {
      if (ranges.length > 0 && ranges.at(-1)[1] === number) ranges.at(-1)[1] = number + 1n
      else if (ranges.length === 32) break
      else ranges.push([number, number + 1n])
    }
    return {
      closed: this.total !== null,
      contacts: this.contactsCame,
      packet: this.session.opener.highest,
      next: this.nextIn,
      ranges
    }
  }

  get settled() {
    return this.flight.size === 0 && this.queue.length === 0 && (!this.closing || this.closeHeard)
  }
}
