// Section 13, the agent's side: a hop session on a WebSocket, one bound channel, and a link that runs through it.

import { Refused, b64url, unb64url } from './bytes.mjs'
import { canonical, canonicalKid, identity, pack, resolve, unpack } from './didcomm.mjs'
import { Initiation } from './handshake.mjs'
import * as hop from './hop.mjs'
import { Opener, Sealer } from './packets.mjs'
import { random } from './primitives.mjs'

const NS = 'https://w3id.org/didmpc/session/1.0'
const CHANNEL = 5
const BEAT = 50 // ms
const party = ({ did, kid, key }) => ({ did: canonical(did), kid: canonicalKid(kid), key })
const seconds = () => performance.now() / 1000

export class RelayPath {
  constructor(link, { mediator, capability }, url) {
    Object.assign(this, { link, mediator, url, capability: unb64url(capability) })
    this.rebindSecret = random(32) // one for every bind of this end
    this.credit = 0
    this.held = []
    this.bound = 0 // how often
    this.events = []
    this.turn = Promise.resolve()
    this.timer = null
  }

  // Link and keys are asynchronous, so all that happens takes its turn.
  inTurn(act) {
    this.turn = this.turn.then(act).catch((error) => {
      console.error(error)
      this.socket?.close()
    })
    return this.turn
  }

  async dial() {
    const socket = (this.socket = new WebSocket(this.url))
    socket.binaryType = 'arraybuffer'
    await new Promise((opened, failed) => Object.assign(socket, { onopen: opened, onerror: failed }))
    const me = await identity('did:key')
    const mediator = await resolve(this.mediator)
    const id = b64url(random(16))
    const initiation = await Initiation.start(party(me), party(mediator), id, { link: null })
    const answer = new Promise((resolved) => (socket.onmessage = resolved))
    const headers = { id, typ: 'application/didcomm-plain+json', from: me.did, to: [mediator.did], return_route: 'all' }
    const expires_time = Math.floor(Date.now() / 1000) + 60
    const open = { ...headers, type: `${NS}/open`, expires_time, body: { hs: initiation.hs } }
    socket.send(JSON.stringify(await pack(open, me, mediator)))
    const { message, sender } = await unpack(JSON.parse((await answer).data), me)
    if (sender.did !== mediator.did || message.thid !== id || message.type !== `${NS}/accept`) throw new Error('no hop')
    const session = await initiation.finish(message.body)
    this.sealer = new Sealer(session.send, session.sidOut, 'binary', { ordered: true })
    this.opener = new Opener(session.receive, session.sidIn, 'binary')
    socket.onmessage = ({ data }) => this.inTurn(() => this.takePacket(new Uint8Array(data)))
    socket.onclose = () => this.inTurn(() => this.down())
    await this.inTurn(async () => this.say(await hop.bind(CHANNEL, this.capability, this.rebindSecret, session.exporter)))
    this.timer ??= setInterval(() => this.inTurn(() => this.speak()), BEAT)
  }

  async say(frame) {
    this.socket.send(await this.sealer.seal(frame))
  }

  async takePacket(packet) {
    const frame = hop.decode(await this.opener.open(packet))
    switch (frame.type) {
      case 'BOUND':
        this.credit = frame.credit
        this.bound++
        this.held = []
        this.link.pathUp('binary', seconds())
        break
      case 'CREDIT':
        this.credit += frame.bytes
        break
      case 'DATA':
        try {
          this.events.push(...(await this.link.receive(frame.packet, seconds())))
        } catch (error) {
          if (!(error instanceof Refused)) throw error
        }
        break
      case 'PING':
        await this.say(hop.encodePong(frame.token))
        break
      case 'UNBOUND':
      case 'ERROR':
        this.events.push({ type: frame.type.toLowerCase(), ...frame })
        this.down()
    }
    await this.speak()
  }

  // What the link has to say, as far as there is credit; the rest is kept, in order.
  async speak() {
    if (this.credit > 0 && this.held.length === 0) this.held.push(...(await this.link.packets(seconds())))
    while (this.held?.length > 0 && this.held[0].length <= this.credit) {
      const packet = this.held.shift()
      this.credit -= packet.length
      await this.say(hop.encodeData(CHANNEL, packet))
    }
  }

  down() {
    this.credit = 0
    this.held = []
    this.link.pathDown('binary')
  }

  async hangUp() {
    const closed = new Promise((resolved) => this.socket.addEventListener('close', resolved))
    this.socket.close()
    await closed
    await this.turn
  }

  take() {
    return this.events.splice(0)
  }
}

