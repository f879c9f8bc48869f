// A whole DIDComm agent that shares no code with ours: npm @hyperledger/identus-sdk.
//
// Run in the folder that holds its node_modules (`make interop-peers` makes it). Each line on stdin is a request as JSON,
// {"do": NAME, ...arguments}; each line on stdout is its answer, {"result": ...} or {"error": TEXT}.
// The SDK speaks to the mediator itself; what is added is what it leaves to its user: a store, and on Node 20 a WebSocket.

import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const require = createRequire(join(process.cwd(), "package.json"));
globalThis.WebSocket ??= require("ws").WebSocket;
console.log = console.error; // stdout is for answers
const { Agent, Apollo, BasicMessage, Domain, ListenerKey, Pluto } = require("@hyperledger/identus-sdk");

// Rows by table. Of the SDK's query language: equality, $and and $or.
class MemoryStore {
  #tables = new Map();

  #rows(table) {
    if (!this.#tables.has(table)) this.#tables.set(table, []);
    return this.#tables.get(table);
  }

  async query(table, query = {}) {
    return this.#rows(table).filter((row) => fits(row, query.selector ?? {}));
  }

  async insert(table, row) {
    this.#rows(table).push(row);
  }

  async update(table, row) {
    const rows = this.#rows(table);
    rows[rows.findIndex((each) => each.uuid === row.uuid)] = row;
  }

  async delete(table, uuid) {
    this.#tables.set(table, this.#rows(table).filter((row) => row.uuid !== uuid));
  }
}

function fits(row, selector) {
  return Object.entries(selector).every(([name, wanted]) => {
    if (name === "$and") return wanted.every((each) => fits(row, each));
    if (name === "$or") return wanted.some((each) => fits(row, each));
    if (wanted !== null && typeof wanted === "object") throw new Error(`not in this store: ${JSON.stringify(wanted)}`);
    return row[name] === wanted;
  });
}

class Client {
  #agent;
  #arrived = [];
  #waiting = [];

  constructor(mediatorDID, live) {
    const apollo = new Apollo();
    const pluto = new Pluto(new MemoryStore(), apollo);
    this.#agent = Agent.initialize({ apollo, pluto, mediatorDID, options: { experiments: { liveMode: live } } });
    this.#agent.addListener(ListenerKey.MESSAGE, (messages) => messages.forEach((message) => this.#take(message)));
  }

  #take(message) {
    const seen = {
      id: message.id,
      type: message.piuri,
      body: message.body,
      from: message.from?.toString() ?? null,
      to: message.to?.toString() ?? null,
    };
    const waiting = this.#waiting.shift();
    if (waiting) waiting(seen);
    else this.#arrived.push(seen);
  }

  // Mediation granted; from here mail is polled for, or pushed in live mode.
  async start() {
    await this.#agent.start();
    const connection = this.#agent.connections.mediator;
    if (!connection?.routingDID) throw new Error("the mediator granted no mediation");
    if (connection.liveMode) {
      const { socket } = connection;
      await new Promise((resolve, reject) => {
        if (socket.readyState === WebSocket.OPEN) resolve();
        socket.addEventListener("open", resolve);
        socket.addEventListener("error", () => reject(new Error("no WebSocket to the mediator")));
      });
    } else {
      this.#agent.stopFetchingMessages();
      await this.#poll();
    }
    return { routing: connection.routingDID.toString(), live: connection.liveMode };
  }

  // One poll that fails ends the SDK's polling for good, and without a word.
  async #poll() {
    await this.#agent.startFetchingMessages(100);
    const job = this.#agent.jobs.fetchMessages;
    job.cancellationToken.catch((error) => {
      if (this.#agent.jobs.fetchMessages !== job) return;
      console.error("polling ended", error);
      this.#agent.jobs.fetchMessages = undefined;
      return this.#poll();
    });
  }

  async stop() {
    await this.#agent.stop();
  }

  // A DID at which mail arrives over the mediator: it goes into the key list. Left to itself the SDK writes a service
  // without `accept`; with `accept` it is given one.
  async mailbox(accept) {
    const { Service, ServiceEndpoint } = Domain.DIDDocument;
    const { uri } = this.#agent.connections.mediator;
    const services = accept ? [new Service("#service", ["DIDCommMessaging"], new ServiceEndpoint(uri, accept))] : [];
    return (await this.#agent.createNewPeerDID(services, true)).toString();
  }

  async send(from, to, content) {
    const { DID } = Domain;
    const message = new BasicMessage({ content }, DID.fromString(from), DID.fromString(to)).makeMessage();
    await this.#agent.sendMessage(message);
    return message.id;
  }

  // The next message that arrived, as soon as there is one.
  async next() {
    return this.#arrived.shift() ?? new Promise((resolve) => this.#waiting.push(resolve));
  }

  async pack(message) {
    const { DID } = Domain;
    const from = message.from ? DID.fromString(message.from) : undefined;
    return this.#agent.mercury.packMessage(
      new Domain.Message(JSON.stringify(message.body), message.id, message.type, from, DID.fromString(message.to)),
    );
  }

  async unpack(envelope) {
    const opened = await this.#agent.mercury.unpackMessage(envelope);
    return { id: opened.id, type: opened.piuri, body: opened.body, from: opened.from?.toString() ?? null };
  }
}

const clients = new Map();

async function answer({ do: name, client, ...given }) {
  if (name === "start") {
    clients.set(client, new Client(given.mediator, given.live));
    return clients.get(client).start();
  }
  const one = clients.get(client);
  if (name === "resume") return one.start();
  if (name === "stop") return one.stop();
  if (name === "mailbox") return one.mailbox(given.accept);
  if (name === "send") return one.send(given.from, given.to, given.content);
  if (name === "next") return one.next();
  if (name === "pack") return one.pack(given.message);
  if (name === "unpack") return one.unpack(given.envelope);
  throw new Error(`no such request: ${name}`);
}

process.on("unhandledRejection", (error) => console.error("unhandled", error));
for await (const line of createInterface({ input: process.stdin })) {
  let said;
  try {
    said = { result: (await answer(JSON.parse(line))) ?? null };
  } catch (error) {
    console.error(error);
    said = { error: `${error.constructor.name}: ${error.message}` };
  }
  process.stdout.write(JSON.stringify(said) + "\n");
}
process.exit(0);
