// The return path of QEMU's migration: the few words that a destination says to its source.

/** MIG_RP_MSG_SHUT (QEMU, migration/migration.h): the last word, 0 when all went well. */
const SHUT = 1;
const HEADER_BYTES = 4;
const WORD_BYTES = 4;

/** The message that ends a migration, as the destination sends it. */
export function returnPathShut(value: number): Uint8Array {
  const message = Buffer.alloc(HEADER_BYTES + WORD_BYTES);
  message.writeUInt16BE(SHUT, 0);
  message.writeUInt16BE(WORD_BYTES, 2);
  message.writeUInt32BE(value, 4);
  return message;
}

/** Reads what a destination says, in whatever pieces it comes. */
export class ReturnPathReader {
  #bytes: Uint8Array = new Uint8Array(0);
  /** The value of the last word, once it was said. */
  shut: number | undefined;

  push(bytes: Uint8Array): void {
    let rest = Buffer.concat([this.#bytes, bytes]);
    while (rest.length >= HEADER_BYTES) {
      const length = HEADER_BYTES + rest.readUInt16BE(2);
      if (rest.length < length) break;
      if (rest.readUInt16BE(0) === SHUT && length >= HEADER_BYTES + WORD_BYTES) this.shut ??= rest.readUInt32BE(4);
      rest = rest.subarray(length);
    }
    this.#bytes = rest;
  }
}
