// The words of QEMU's migration stream: its numbers (big-endian), its marks, and what to say of a stream that is another.
import { OperationError } from "../../base/errors.ts";

/** What the byte before each section says (QEMU, migration/savevm.h). */
export const SectionType = {
  end: 0x00,
  start: 0x01,
  part: 0x02,
  last: 0x03,
  subsection: 0x05,
  description: 0x06,
  configuration: 0x07,
  command: 0x08,
  footer: 0x7e,
} as const;

export const MAGIC = 0x51_45_56_4d;
export const VERSION = 3;

/** Flags in the low bits of a RAM record's address (QEMU, migration/ram.c). */
export const RamFlag = { zero: 0x02, blockList: 0x04, page: 0x08, endOfSection: 0x10, sameBlock: 0x20 } as const;
export const RAM_PAGE_BYTES = 4096;
export const RAM_FLAGS = RAM_PAGE_BYTES - 1;

export function ramWord(page: number, flags: number): Uint8Array {
  const word = Buffer.alloc(8);
  word.writeBigUInt64BE(BigInt(page) * BigInt(RAM_PAGE_BYTES) + BigInt(flags));
  return word;
}

export function u16(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset] as number) << 8) | (bytes[offset + 1] as number);
}

export function u32(bytes: Uint8Array, offset: number): number {
  return u16(bytes, offset) * 0x1_0000 + u16(bytes, offset + 2);
}

export function u64(bytes: Uint8Array, offset: number): number {
  const value = u32(bytes, offset) * 0x1_0000_0000 + u32(bytes, offset + 4);
  if (!Number.isSafeInteger(value)) throw unknownStream(`a length or an address of ${value} bytes`);
  return value;
}

/** What a record of RAM says beside its flags. */
export function address(record: Uint8Array): number {
  return u64(record, 0) - (u32(record, 4) & RAM_FLAGS);
}

export function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("latin1");
}

export function unknownStream(what: string): OperationError<"qemu-stream-unknown"> {
  return new OperationError({
    code: "qemu-stream-unknown",
    message: `QEMU's migration stream is not of the form that is known here: ${what}.`,
    advice: "Switch off the migration capabilities that change it (multifd, xbzrle, postcopy-ram, mapped-ram).",
    facts: { what },
  });
}
