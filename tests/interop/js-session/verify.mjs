// The vectors of the mandatory suite against this implementation:  node verify.mjs <folder>

import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { Refused, b64url, concat, hex, sameJson, unb64url, unhex, utf8 } from './bytes.mjs'
import { canonical, canonicalKid, resolve } from './didcomm.mjs'
import * as frames from './frames.mjs'
import { Initiation, SUITE, respond } from './handshake.mjs'
import * as hop from './hop.mjs'
import { Link } from './link.mjs'
import { Opener, Sealer } from './packets.mjs'
import { ed25519Public, x25519, x25519Public } from './primitives.mjs'
import * as schedule from './schedule.mjs'

const folder = process.argv[2]
const load = (name) => JSON.parse(readFileSync(join(folder, name), 'utf8'))
let compared = 0

function same(place, found, stated) {
  compared++
  const value = found instanceof Uint8Array ? hex(found) : found
  if (!sameJson(value, stated)) {
    console.error(`${place}: computed ${JSON.stringify(value)}, stated ${JSON.stringify(stated)}`)
    process.exit(1)
  }
}

async function refuses(place, code, act) {
  let found = 'nothing is refused'
  try {
    await act()
  } catch (error) {
    if (!(error instanceof Refused)) throw error
    found = error.code
  }
  same(place, found, code)
}

const cases = new Map(
  load('handshake-x25519.json').handshakes.map((item) => [item.name, item])
)
const exporterBefore = (item) => (item.continues === null ? null : unhex(cases.get(item.continues).labels.exp))
const bytesOf = (packet, wire) => (wire === 'binary' ? unhex(packet) : utf8(packet))

async function parties(item) {
  const out = []
  for (const role of ['initiator', 'responder']) {
    const { did, kid, key } = await resolve(item[role].did)
    out.push({ did: canonical(did), kid: canonicalKid(kid), key })
  }
  return out
}

const initiation = async (item) =>
  Initiation.fromVector(await parties(item), item.open.id, item.open.body.hs, {
    e: unhex(item.initiator.e),
    k: unhex(item.initiator.k),
    sid: unhex(item.initiator.sid),
    continues: exporterBefore(item)
  })

async function answer(item, body, wires = ['binary', 'json'], link = item.hs_i.link) {
  const [peer, me] = await parties(item)
  const before = exporterBefore(item)
  const draws = { e: unhex(item.responder.e), k: unhex(item.responder.k), sid: unhex(item.responder.sid) }
  return respond(me, peer, item.open.id, body, {
    link,
    wires,
    exporters: before === null ? [] : [before],
    draws: { ...draws, hs: item.accept.body.hs }
  })
}

async function handshake(item) {
  const place = item.name
  const [i, r] = await parties(item)
  for (const [role, party] of [['initiator', i], ['responder', r]]) {
    same(`${place} ${role} did`, party.did, item[role].canonical)
    same(`${place} ${role} kid`, party.kid, item[role].kid)
    same(`${place} ${role} key`, party.key, item[role].public)
  }
  same(`${place} initiator's private key`, await x25519Public(unhex(item.initiator.private)), item.initiator.public)
  for (const [role, hello] of [['initiator', item.hs_i], ['responder', item.hs_r]]) {
    same(`${place} e`, b64url(await x25519Public(unhex(item[role].e))), hello.e)
  }
  same(`${place} ee`, await x25519(unhex(item.initiator.e), unb64url(item.hs_r.e)), item.ee)
  const initiator = await (await initiation(item)).finish(item.accept.body)
  const { accept, session: responder } = await answer(item, item.open.body)
  same(`${place} accept`, accept, item.accept.body)
  for (const session of [initiator, responder]) {
    for (const name of ['th', 'ikm', 'prk']) same(`${place} ${name}`, session[name], item[name])
    for (const [label, output] of Object.entries(item.labels)) {
      same(`${place} ${label}`, await schedule.output(session.prk, label, session.th), output)
    }
    for (const { label, size, output } of item.exports) {
      same(`${place} ${label}`, await schedule.exported(session.exporter, label, size), output)
    }
  }
  await direction(`${place} i2r`, item, initiator.send, responder.receive, responder.sidIn, item.directions.i2r)
  await direction(`${place} r2i`, item, responder.send, initiator.receive, initiator.sidIn, item.directions.r2i)
}

async function direction(place, item, sends, receives, sid, stated) {
  const sealer = new Sealer(sends, sid, item.wire)
  const opener = new Opener(receives, sid, item.wire)
  same(`${place} sid`, sid, stated.sid)
  let secret = sends
  for (const epoch of stated.epochs) {
    same(`${place} secret`, secret, epoch.secret)
    const { key, iv, next } = await schedule.epoch(secret)
    same(`${place} key and iv`, [hex(key), hex(iv)], [epoch.key, epoch.iv])
    secret = next
  }
  for (const packet of stated.packets) {
    if (packet.epoch > sealer.epoch) await sealer.step()
    const sealed = await sealer.seal(unhex(packet.plaintext))
    same(`${place} packet`, sealed, hex(bytesOf(packet.packet, item.wire)))
    same(`${place} plaintext`, await opener.open(sealed), packet.plaintext)
    same(`${place} number`, String(opener.highest), packet.number)
  }
}

async function sequences(wire) {
  for (const item of load(`packets-${wire}.json`).sequences) {
    const opener = new Opener(unhex(item.secret), unhex(item.sid), wire)
    for (const [index, step] of item.steps.entries()) {
      const place = `${wire}: ${item.name}, step ${index}`
      const more = concat(new Uint8Array(step.zeros ?? 0), new Uint8Array(step.spaces ?? 0).fill(0x20))
      const packet = concat(bytesOf(step.packet, wire), more)
      if (step.error === undefined) same(place, await opener.open(packet), step.opens)
      else await refuses(place, step.error, () => opener.open(packet))
    }
  }
}

const shown = (value) => {
  if (typeof value === 'bigint') return String(value)
  if (value instanceof Uint8Array) return hex(value)
  if (Array.isArray(value)) return value.map(shown)
  return value
}

async function allFrames() {
  const stated = load('frames.json')
  for (const item of stated.frames) {
    const found = frames.decode(unhex(item.plaintext))
    const asStated = found.map((frame) =>
      Object.fromEntries(Object.entries(frame).map(([name, value]) => [name, shown(value)]))
    )
    same(item.name, asStated, item.frames)
    const again = concat(...found.map(frames.encode))
    if (!item.name.includes('padding') && !item.name.includes('one of each') && item.name !== 'ping') {
      same(`${item.name}, written`, again, item.plaintext)
    }
  }
  for (const item of stated.refused) {
    const plaintext = concat(unhex(item.plaintext), new Uint8Array(item.zeros ?? 0))
    await refuses(item.name, item.error, () => frames.decode(plaintext))
  }
  for (const item of load('padding.json').padding) same('padding', frames.paddedLength(item.frames), item.plaintext)
}

// A link of a responder that sends nothing, and its peer's packets.
async function links() {
  const [send, receive] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)]
  const sids = { sidIn: new Uint8Array(8).fill(3), sidOut: new Uint8Array(8).fill(4) }
  for (const item of load('link.json').links) {
    const session = { role: 'responder', wire: 'binary', send, receive, ...sids }
    const link = new Link(session, { limits: item.limits })
    const sealer = new Sealer(receive, sids.sidIn, 'binary')
    for (const [index, step] of item.steps.entries()) {
      const place = `link, ${item.name}, step ${index}`
      const packet = await sealer.seal(unhex(step.plaintext))
      if (step.error !== undefined) {
        await refuses(place, step.error, () => link.receive(packet, index))
        continue
      }
      const events = await link.receive(packet, index)
      const one = (type) => events.find((event) => event.type === type)
      const data = events.filter((event) => event.type === 'data')
      same(place, data.map((event) => ({ start: event.start, data: hex(event.data) })), step.delivers)
      same(`${place} ends`, one('closed') !== undefined, step.ends ?? false)
      same(`${place} proofs`, one('contacts')?.proofs.slice(0, 1).map(hex), step.proofs)
      same(`${place} aborts`, one('aborted')?.cause, step.aborts)
      const { packet: _, ...ack } = link.ack()
      same(`${place} ack`, Object.fromEntries(Object.entries(ack).map(([name, value]) => [name, shown(value)])), step.ack)
    }
  }
}

async function contacts() {
  const stated = load('contact.json')
  for (const role of ['i', 'r']) {
    for (const [index, secret] of stated.pair_secrets.entries()) {
      const found = await schedule.contactProof(unhex(secret), role, unhex(stated.exporter))
      same('contact proof', found, stated[role][index])
    }
  }
}

async function hops() {
  const stated = load('hop.json')
  const exporter = unhex(stated.exporter)
  const bind = hop.decode(unhex(stated.bind.frame))
  await hop.verifyBind(bind, exporter)
  const rebind = unhex(stated.rebind_private)
  same('bind', await hop.bind(bind.channel, bind.capability, rebind, exporter), stated.bind.frame)
  same('rebind key', await ed25519Public(rebind), hex(bind.rebind_key))
  for (const item of stated.bind_refused) {
    await refuses(item.name, item.error, () => hop.verifyBind(hop.decode(unhex(item.frame)), exporter))
  }
  for (const { name, frame, ...members } of stated.frames) same(name, hop.shown(hop.decode(unhex(frame))), members)
  for (const item of stated.refused) await refuses(item.name, item.error, () => hop.decode(unhex(item.frame)))
}

async function refusals() {
  const stated = load('refusals.json')
  for (const item of stated.open) {
    const of = cases.get(item.handshake)
    if (of !== undefined) await refuses(`open: ${item.name}`, item.error, () => answer(of, item.body, item.wires, item.expects))
  }
  for (const item of stated.accept) {
    const of = cases.get(item.handshake)
    if (of !== undefined) {
      await refuses(`accept: ${item.name}`, item.error, async () => (await initiation(of)).finish(item.body))
    }
  }
}

for (const item of cases.values()) {
  same('suite', item.suite, SUITE)
  await handshake(item)
}
await sequences('binary')
await sequences('json')
await allFrames()
await links()
await contacts()
await hops()
await refusals()
console.log(`${compared} values compared, all as the specification has them.`)
