// Messages as a peer writes them, for tests of what reads them.
import fc from "fast-check";
import type { ReceivedMessage } from "./channel.ts";

export interface TestMessage {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  readonly error: number;
  readonly payload: Uint8Array;
}

/** The bytes of a message; `sizeBytes` announces another size than it has. */
export function encodeMessage(message: TestMessage, sizeBytes = 16 + message.payload.length): Uint8Array {
  const bytes = new Uint8Array(16 + message.payload.length);
  const fields = new DataView(bytes.buffer);
  fields.setUint16(0, message.id, true);
  fields.setUint16(2, message.command, true);
  fields.setUint32(4, sizeBytes, true);
  fields.setUint32(8, message.flags, true);
  fields.setUint32(12, message.error, true);
  bytes.set(message.payload, 16);
  return bytes;
}

/** What was received, in a copy that is good for longer than the listener. */
export function keep(message: ReceivedMessage): TestMessage {
  const { id, command, flags, error, payload } = message;
  return { id, command, flags, error, payload: new Uint8Array(payload) };
}

export function messageOf(id: number, payload: Uint8Array = new Uint8Array(0)): TestMessage {
  return { id, command: 9, flags: 0, error: 0, payload };
}

export function concatenate(chunks: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

/** Any message with up to so many bytes behind its header. */
export function anyMessage(payloadBytesMax: number): fc.Arbitrary<TestMessage> {
  const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
  const u16 = fc.integer({ min: 0, max: 0xffff });
  const payload = fc.uint8Array({ maxLength: payloadBytesMax });
  return fc.record({ id: u16, command: u16, flags: u32, error: u32, payload }, { noNullPrototype: true });
}
