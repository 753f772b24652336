// For tests: a BIOS image that is a few bytes of real-mode code, so that a machine runs without any download.

const imageBytes = 0x1_0000;

/** 64 KiB that start at F000:0000 with the code, given in hexadecimal; the reset vector jumps there. */
export function toyBios(hex: string): Uint8Array {
  const image = new Uint8Array(imageBytes);
  image.set(
    hex
      .trim()
      .split(/\s+/)
      .map((byte) => Number.parseInt(byte, 16)),
  );
  image.set([0xea, 0x00, 0x00, 0x00, 0xf0], imageBytes - 16);
  return image;
}

/** Segment 0x2000 to ES and DS, 0x3000 to SS, the stack at the segment's end. 15 bytes. */
export const setSegments = "b8 00 20 8e c0 8e d8 b8 00 30 8e d0 bc 00 00 ";

/** Counts up the 32-bit word at 0x20000, for ever. */
export const countForEver = `${setSegments} 66 ff 06 00 00 eb f9`;

export const halt = "fa f4";
