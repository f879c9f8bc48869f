// A DIDComm peer that shares no code with ours: npm didcomm-node (didcomm-rust in WebAssembly).
//
// Run in the folder that holds its node_modules (`make interop-peers` makes it). Each line on stdin is a request as JSON,
// {"do": NAME, ...arguments}; each line on stdout is its answer, {"result": ...} or {"error": TEXT}.
// The private keys of the DIDs it makes stay in here. The library leaves DIDs to its user: did:peer:2 and did:peer:4
// are read and written here from the text of the DID methods.

import { createHash, ECDH, generateKeyPairSync } from "node:crypto";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const require = createRequire(join(process.cwd(), "package.json"));
console.log = console.error; // stdout is for answers
const { FromPrior, Message } = require("didcomm-node");

const MEDIA_TYPE = "application/didcomm-encrypted+json";
const ENC = {
  "A256CBC-HS512": "A256cbcHs512EcdhEsA256kw",
  A256GCM: "A256gcmEcdhEsA256kw",
  XC20P: "Xc20pEcdhEsA256kw",
};
const MULTICODEC = {
  Ed25519: "ed01",
  X25519: "ec01",
  "P-256": "8024",
  "P-384": "8124", // to read only
  secp256k1: "e701",
};
const OPENSSL_NAME = { "P-256": "prime256v1", "P-384": "secp384r1", secp256k1: "secp256k1" };
const JSON_DOCUMENT = Buffer.from("8004", "hex"); // multicodec: json
const SHA2_256 = Buffer.from("1220", "hex"); // multihash

// --- encodings

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

function multibase(bytes) {
  let number = BigInt("0x" + (bytes.toString("hex") || "0"));
  let text = "";
  for (; number > 0n; number /= 58n) text = ALPHABET[Number(number % 58n)] + text;
  for (const byte of bytes) {
    if (byte !== 0) break;
    text = ALPHABET[0] + text;
  }
  return "z" + text;
}

function unmultibase(text) {
  if (text[0] !== "z") throw new Error("not base58btc");
  let number = 0n;
  for (const letter of text.slice(1)) number = number * 58n + BigInt(ALPHABET.indexOf(letter));
  const hex = number.toString(16);
  return Buffer.from(hex.padStart(hex.length + (hex.length % 2), "0"), "hex"); // no multikey starts with zero
}

const base64url = (bytes) => Buffer.from(bytes).toString("base64url");

function multikey(jwk) {
  const x = Buffer.from(jwk.x, "base64url");
  if (jwk.kty === "OKP") return multibase(Buffer.concat([Buffer.from(MULTICODEC[jwk.crv], "hex"), x]));
  const sign = 2 + (Buffer.from(jwk.y, "base64url").at(-1) % 2);
  return multibase(Buffer.concat([Buffer.from(MULTICODEC[jwk.crv], "hex"), Buffer.from([sign]), x]));
}

function jwkOf(text) {
  const bytes = unmultibase(text);
  const [crv] = Object.entries(MULTICODEC).find(([, code]) => code === bytes.subarray(0, 2).toString("hex")) ?? [];
  if (!crv) throw new Error(`a key of an unknown kind: ${text}`);
  const raw = bytes.subarray(2);
  if (!(crv in OPENSSL_NAME)) return { kty: "OKP", crv, x: base64url(raw) };
  const point = ECDH.convertKey(raw, OPENSSL_NAME[crv], undefined, undefined, "uncompressed");
  const size = (point.length - 1) / 2;
  return { kty: "EC", crv, x: base64url(point.subarray(1, 1 + size)), y: base64url(point.subarray(1 + size)) };
}

// --- DID documents

const LONG = {
  t: "type", dm: "DIDCommMessaging", s: "serviceEndpoint", r: "routingKeys", a: "accept",
};

function expanded(value) {
  if (Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [
      LONG[name] ?? name,
      item !== null && typeof item === "object" ? expanded(item) : name === "t" ? (LONG[item] ?? item) : item,
    ]),
  );
}

function peer2(did) {
  const keys = [];
  const services = [];
  for (const segment of did.split(".").slice(1)) {
    const rest = segment.slice(1);
    if (segment[0] === "S") services.push(expanded(JSON.parse(Buffer.from(rest, "base64url"))));
    else keys.push({ id: `${did}#key-${keys.length + 1}`, purpose: segment[0], text: rest });
  }
  const of = (purpose) => keys.filter((key) => key.purpose === purpose).map((key) => key.id);
  return document(did, keys, of("V"), of("E"), services);
}

function peer4(did) {
  const [, , name, encoded] = did.split(":");
  const hash = createHash("sha256").update(encoded).digest();
  if (name !== "4" + multibase(Buffer.concat([SHA2_256, hash]))) throw new Error("the hash of a did:peer:4 is wrong");
  const bytes = unmultibase(encoded);
  if (!bytes.subarray(0, 2).equals(JSON_DOCUMENT)) throw new Error("a did:peer:4 holds no JSON");
  const value = JSON.parse(bytes.subarray(2));
  const keys = value.verificationMethod.map((item) => ({ id: did + item.id, text: item.publicKeyMultibase }));
  const absolute = (ids) => ids.map((id) => did + id);
  return document(did, keys, absolute(value.authentication), absolute(value.keyAgreement), value.service ?? []);
}

function document(did, keys, authentication, keyAgreement, services) {
  return {
    id: did,
    authentication,
    keyAgreement,
    verificationMethod: keys.map(({ id, text }) => ({
      id, type: "JsonWebKey2020", controller: did, publicKeyJwk: jwkOf(text),
    })),
    service: services.map((service, n) => ({
      id: `${did}#service-${n}`,
      type: "DIDCommMessaging",
      serviceEndpoint: {
        uri: service.serviceEndpoint.uri,
        accept: service.serviceEndpoint.accept ?? [],
        routingKeys: service.serviceEndpoint.routingKeys ?? [], // its typings say routing_keys, which it ignores
      },
    })),
  };
}

const resolver = {
  async resolve(did) {
    if (did.startsWith("did:peer:2")) return peer2(did);
    if (did.startsWith("did:peer:4")) return peer4(did);
    return null;
  },
};

// --- DIDs of its own

const held = new Map();

const secrets = {
  async get_secret(id) {
    return held.get(id) ?? null;
  },
  async find_secrets(ids) {
    return ids.filter((id) => held.has(id));
  },
};

function newKey(curve) {
  const kind = { X25519: "x25519", Ed25519: "ed25519" }[curve];
  const pair = kind ? generateKeyPairSync(kind) : generateKeyPairSync("ec", { namedCurve: OPENSSL_NAME[curve] });
  return pair.privateKey.export({ format: "jwk" });
}

function createPeer2(agreement, signing, services) {
  const segments = services.map((service) => {
    const endpoint = { uri: service.uri, a: service.accept, r: service.routingKeys ?? [] };
    return ".S" + base64url(JSON.stringify({ t: "dm", s: endpoint }));
  });
  return `did:peer:2.E${multikey(agreement)}.V${multikey(signing)}${segments.join("")}`;
}

function createPeer4(agreement, signing, services) {
  const value = {
    "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
    verificationMethod: [agreement, signing].map((key, n) => ({
      id: `#key-${n + 1}`, type: "Multikey", publicKeyMultibase: multikey(key),
    })),
    keyAgreement: ["#key-1"],
    authentication: ["#key-2"],
    service: services.map((service, n) => ({
      id: `#service-${n}`, type: "DIDCommMessaging", serviceEndpoint: service,
    })),
  };
  const encoded = multibase(Buffer.concat([JSON_DOCUMENT, Buffer.from(JSON.stringify(value))]));
  const hash = createHash("sha256").update(encoded).digest();
  return `did:peer:4${multibase(Buffer.concat([SHA2_256, hash]))}:${encoded}`;
}

// --- requests

const requests = {
  // A new DID, with the keys #key-1 to agree and #key-2 to sign.
  async create({ method, curve, signing = "Ed25519", services = [] }) {
    const keys = [newKey(curve), newKey(signing)];
    const did = (method === "peer2" ? createPeer2 : createPeer4)(...keys, services);
    keys.forEach((privateKeyJwk, n) => {
      const id = `${did}#key-${n + 1}`;
      held.set(id, { id, type: "JsonWebKey2020", privateKeyJwk });
    });
    return did;
  },

  // Encrypt; authcrypt where there is a `sender`. `forward`: for the routing keys of `to`.
  async pack({ message, to, sender = null, signer = null, enc = "XC20P", hide_sender = false, forward = false }) {
    const options = { forward, protect_sender: hide_sender, enc_alg_anon: ENC[enc] };
    const [packed] = await (await read(message)).pack_encrypted(to, sender, signer, resolver, secrets, options);
    return packed;
  },

  async plain({ message }) {
    return (await read(message)).pack_plaintext(resolver);
  },

  async sign({ message, signer }) {
    const [packed] = await (await read(message)).pack_signed(signer, resolver, secrets);
    return packed;
  },

  // Put forwards around an envelope, `hops` in the order in which it travels.
  async wrap({ envelope, to, hops, enc = "XC20P" }) {
    return Message.wrap_in_forward(envelope, {}, to, hops, ENC[enc], resolver);
  },

  async unpack({ envelope }) {
    const [opened, proven] = await Message.unpack(envelope, resolver, secrets, {});
    const { from_prior, ...message } = opened.as_value();
    return {
      message,
      authenticated: proven.authenticated,
      anonymous_sender: proven.anonymous_sender,
      sender: proven.encrypted_from_kid ?? null,
      recipients: proven.encrypted_to_kids ?? null,
      signer: proven.sign_from ?? null,
      enc: Object.keys(ENC).find((name) => ENC[name] === proven.enc_alg_anon) ?? null,
      prior: proven.from_prior ?? null,
      prior_signer: proven.from_prior_issuer_kid ?? null,
    };
  },

  // Open a forward as a mediator does.
  async unwrap({ envelope }) {
    const [opened] = await Message.unpack(envelope, resolver, secrets, {});
    const forward = opened.try_parse_forward();
    return { next: forward.next, forwarded: JSON.stringify(forward.forwarded_msg) };
  },

  async endpoints({ did }) {
    return (await resolver.resolve(did)).service.map((service) => service.serviceEndpoint.uri);
  },

  async post({ url, envelope }) {
    const response = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": MEDIA_TYPE },
      body: envelope,
      signal: AbortSignal.timeout(20_000),
    });
    return { status: response.status, body: await response.text() };
  },
};

async function read(value) {
  const message = { typ: "application/didcomm-plain+json", ...value };
  if (message.from_prior) {
    const [jwt] = await new FromPrior(message.from_prior).pack(null, resolver, secrets);
    message.from_prior = jwt;
  }
  return new Message(message);
}

for await (const line of createInterface({ input: process.stdin })) {
  let said;
  try {
    const { do: name, ...given } = JSON.parse(line);
    said = { result: await requests[name](given) };
  } catch (error) {
    console.error(error);
    said = { error: `${error.name}: ${error.message}` };
  }
  process.stdout.write(JSON.stringify(said) + "\n");
}
