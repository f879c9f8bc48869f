// One party, driven by lines of JSON on standard input, each answered by one line: a peer for tests of other
// implementations. Packets are hex (of text, in the JSON form), time is what the driver says.

import { createInterface } from 'node:readline'

import { Refused, b64url, hex, unhex } from './bytes.mjs'
import { canonical, canonicalKid, identity, pack, resolve, unpack } from './didcomm.mjs'
import { Initiation, respond } from './handshake.mjs'
import { Link } from './link.mjs'
import { RelayPath } from './relay.mjs'
import { random } from './primitives.mjs'
import { contactProof } from './schedule.mjs'

const NS = 'https://w3id.org/didmpc/session/1.0'
const party = ({ did, kid, key }) => ({ did: canonical(did), kid: canonicalKid(kid), key })

const me = await identity()
const initiations = new Map()
const accepts = new Map() // answered opens, by id
const exporters = []
let capability = null
let link = null
let relay = null // carries the link's packets, where they do not go through the driver

// The first session makes the link, later ones renew it.
function adopt(session, { now, epoch_packets }) {
  exporters.push(session.exporter)
  if (link === null) link = new Link(session, { epochPackets: BigInt(epoch_packets ?? 1 << 20), state: { state: 'js' } })
  else link.renew(session, now)
  capability = session.caps.find((cap) => cap.type === 'relay/1.0') ?? capability
  return { role: session.role, wire: session.wire, exporter: hex(session.exporter), th: hex(session.th) }
}

const events = (list) =>
  list.map((event) => ({
    ...event,
    ...(event.data && { data: hex(event.data) }),
    ...(event.proofs && { proofs: event.proofs.map(hex) })
  }))

const commands = {
  identity: () => ({ did: me.did }),

  async open({ peer, wires, link: purpose, expires_time }) {
    const other = await resolve(peer)
    const id = b64url(random(16))
    const continues = exporters.at(-1) ?? null
    const initiation = await Initiation.start(party(me), party(other), id, { wires, link: purpose, continues })
    initiations.set(id, initiation)
    const body = { hs: initiation.hs }
    const typ = 'application/didcomm-plain+json'
    const message = { id, typ, type: `${NS}/open`, from: me.did, to: [peer], expires_time, body }
    return { envelope: await pack(message, me, other) }
  },

  async message({ envelope, peer, wires, link: purpose, now, epoch_packets }) {
    const { message, sender } = await unpack(envelope, me)
    if (canonical(sender.did) !== canonical(peer)) throw new Error('a message of somebody else')
    if (message.type === `${NS}/accept`) {
      const session = await initiations.get(message.thid).finish(message.body)
      initiations.delete(message.thid)
      return adopt(session, { now, epoch_packets })
    }
    if (message.type !== `${NS}/open`) throw new Error(`a message of type ${message.type}`)
    const known = accepts.get(message.id)
    const options = { wires, link: purpose, exporters }
    const answer = known ?? (await respond(party(me), party(sender), message.id, message.body, options))
    accepts.set(message.id, answer)
    const adopted = known === undefined ? adopt(answer.session, { now, epoch_packets }) : {}
    const typ = 'application/didcomm-plain+json'
    const reply = { id: b64url(random(16)), typ, type: `${NS}/accept`, thid: message.id, from: me.did, to: [peer] }
    return { ...adopted, envelope: await pack({ ...reply, body: answer.accept }, me, sender) }
  },

  path_up: ({ wire, now }) => link.pathUp(wire, now),
  path_down: ({ wire }) => link.pathDown(wire),
  send: ({ start, data }) => link.send(start, unhex(data)),
  close: () => link.close(),
  abort: ({ cause }) => link.abort(cause),

  async contacts({ pair_secrets }) {
    const proofs = []
    const role = link.session.initiator ? 'i' : 'r'
    for (const secret of pair_secrets) proofs.push(await contactProof(unhex(secret), role, exporters[0]))
    while (proofs.length < 16) proofs.splice(random(1)[0] % (proofs.length + 1), 0, random(32))
    link.offerContacts(proofs)
  },

  // From now on the link runs by itself, through the mediator that the peer has named in `caps`.
  async dial({ url }) {
    relay ??= new RelayPath(link, capability, url)
    await relay.dial()
  },

  hang_up: () => relay.hangUp(),
  taken: async () => ({ events: events(relay.take()), settled: link.settled, bound: relay.bound, credit: relay.credit }),

  receive: async ({ packet, now }) => ({ events: events(await link.receive(unhex(packet), now)) }),
  packets: async ({ now }) => ({ packets: (await link.packets(now)).map(hex), wire: link.session.wire }),
  status: () => ({
    settled: link.settled,
    resent: link.resent,
    epochs: [link.session.sealer.epoch, link.session.opener.epoch],
    wire: link.session.wire,
    sessions: exporters.length
  })
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer
  try {
    const { do: name, ...options } = JSON.parse(line)
    answer = (await commands[name](options)) ?? {}
  } catch (error) {
    if (!(error instanceof Error)) throw error
    answer = error instanceof Refused ? { refused: error.code } : { failed: error.stack }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}
