// Section 1: bytes, integers, base64url in its canonical spelling, strict JSON.

export class Refused extends Error {
  constructor(code) {
    super(code)
    this.code = code
  }
}

export const utf8 = (text) => new TextEncoder().encode(text)

export const hex = (data) => Array.from(data, (byte) => byte.toString(16).padStart(2, '0')).join('')

export const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16))

export function concat(...parts) {
  const out = new Uint8Array(parts.reduce((size, part) => size + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

export const equal = (a, b) => a.length === b.length && a.every((byte, index) => byte === b[index])

// In time that does not depend on where the first difference is.
export function equalSecret(a, b) {
  if (a.length !== b.length) return false
  let difference = 0
  for (let index = 0; index < a.length; index++) difference |= a[index] ^ b[index]
  return difference === 0
}

export function uint(value, size) {
  const out = new Uint8Array(size)
  let rest = BigInt(value)
  for (let index = size - 1; index >= 0; index--) {
    out[index] = Number(rest & 255n)
    rest >>= 8n
  }
  return out
}

export const bigint = (data) => data.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n)

export const lp = (data) => concat(uint(data.length, 4), data)

export function b64url(data) {
  let text = ''
  for (let at = 0; at < data.length; at += 0x8000) text += String.fromCharCode(...data.subarray(at, at + 0x8000))
  return btoa(text).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
}

export function unb64url(text, code, size) {
  if (typeof text !== 'string' || !/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) throw new Refused(code)
  const plain = atob(text.replaceAll('-', '+').replaceAll('_', '/'))
  const data = Uint8Array.from(plain, (letter) => letter.charCodeAt(0))
  if (b64url(data) !== text || (size !== undefined && data.length !== size)) throw new Refused(code)
  return data
}

// JSON.parse takes members that stand twice, so objects are read here.
class JsonReader {
  constructor(text) {
    this.text = text
    this.at = 0
    this.depth = 0
  }

  space() {
    while (' \t\n\r'.includes(this.text[this.at]) && this.at < this.text.length) this.at++
  }

  take(pattern) {
    pattern.lastIndex = this.at
    const match = pattern.exec(this.text)
    if (match === null) throw new SyntaxError('no JSON')
    this.at = pattern.lastIndex
    return match[0]
  }

  value() {
    if (++this.depth > 200) throw new SyntaxError('too deep')
    this.space()
    const first = this.text[this.at]
    let value
    if (first === '{') value = this.object()
    else if (first === '[') value = this.array()
    else if (first === '"') value = this.string()
    else value = JSON.parse(this.take(/true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y))
    this.space()
    this.depth--
    return value
  }

  string() {
    return JSON.parse(this.take(/"(?:[^"\\\u0000-\u001f]|\\.)*"/y))
  }

  array() {
    const items = []
    this.take(/\[/y)
    this.space()
    if (this.text[this.at] !== ']') {
      items.push(this.value())
      while (this.text[this.at] === ',') {
        this.at++
        items.push(this.value())
      }
    }
    this.take(/\]/y)
    return items
  }

  object() {
    const members = new Map()
    const member = () => {
      this.space()
      const name = this.string()
      this.space()
      this.take(/:/y)
      if (members.has(name)) throw new SyntaxError('twice')
      members.set(name, this.value())
    }
    this.take(/\{/y)
    this.space()
    if (this.text[this.at] !== '}') {
      member()
      while (this.text[this.at] === ',') {
        this.at++
        member()
      }
    }
    this.take(/\}/y)
    return Object.fromEntries(members)
  }
}

export const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value)

export function jsonObject(data, code) {
  try {
    const reader = new JsonReader(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(data))
    const value = reader.value()
    if (reader.at !== reader.text.length || !isObject(value)) throw new SyntaxError('no object')
    return value
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) throw new Refused(code)
    throw error
  }
}

export function sameJson(a, b) {
  if (isObject(a) && isObject(b)) {
    const names = Object.keys(a)
    return (
      names.length === Object.keys(b).length && names.every((name) => Object.hasOwn(b, name) && sameJson(a[name], b[name]))
    )
  }
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((item, index) => sameJson(item, b[index]))
  }
  return a === b
}
