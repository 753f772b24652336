// Frames for tests, and checksums by the letter of the RFCs, slow and independent of the device's own code.

/** RFC 1071 by the letter: 16-bit big-endian words, carries added at the end. */
export function internetChecksum(bytes: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i] ?? 0) * 256 + (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum % 0x1_0000) + Math.floor(sum / 0x1_0000);
  return 0xffff - sum;
}

/** CRC32c bit by bit. */
export function crc32c(bytes: readonly number[]): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? ((crc >>> 1) ^ 0x82f6_3b78) >>> 0 : crc >>> 1;
  }
  return (crc ^ 0xffff_ffff) >>> 0;
}

const big = (value: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => Math.floor(value / 256 ** (count - 1 - i)) % 256);

export const protocols = { tcp: 6, udp: 17, sctp: 132 } as const;
export type ProtocolName = keyof typeof protocols;

export interface FrameRecipe {
  readonly version: 4 | 6;
  readonly protocol: ProtocolName;
  readonly payload: readonly number[];
  readonly vlan?: number;
  /** 32-bit words of IPv4 options, or 8-byte units of an IPv6 destination option. */
  readonly extra?: number;
  readonly tcpFlags?: number;
  readonly tcpOptionWords?: number;
  readonly sequence?: number;
  readonly identification?: number;
  readonly source?: readonly number[];
  readonly target?: readonly number[];
  readonly ports?: readonly [number, number];
}

export interface BuiltFrame {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Without a tag, as if it were stripped. */
  readonly macBytes: number;
  readonly ipBytes: number;
  readonly l4Bytes: number;
  /** Sum of the pseudo header, not complemented, with and without the length. */
  readonly pseudoSum: number;
  readonly pseudoSumWithoutLength: number;
}

const checksumOffset = { tcp: 16, udp: 6, sctp: 8 } as const;

function layer4Header(recipe: FrameRecipe): number[] {
  const [sourcePort, targetPort] = recipe.ports ?? [0x1234, 0x5678];
  const ports = [...big(sourcePort, 2), ...big(targetPort, 2)];
  if (recipe.protocol === "udp") return [...ports, ...big(8 + recipe.payload.length, 2), 0, 0];
  if (recipe.protocol === "sctp") return [...ports, ...big(0xdead_beef, 4), 0, 0, 0, 0];
  const optionWords = recipe.tcpOptionWords ?? 0;
  const options = Array.from({ length: optionWords * 4 }, () => 1);
  const head = [...big(recipe.sequence ?? 1000, 4), ...big(77, 4), (5 + optionWords) << 4, recipe.tcpFlags ?? 0x10];
  return [...ports, ...head, ...big(512, 2), 0, 0, 0, 0, ...options];
}

function ipHeader(
  recipe: FrameRecipe,
  datagram: number,
  source: readonly number[],
  target: readonly number[],
): number[] {
  const extra = recipe.extra ?? 0;
  const protocol = protocols[recipe.protocol];
  if (recipe.version === 6) {
    const option = extra === 0 ? [] : [protocol, extra - 1, ...Array.from({ length: extra * 8 - 2 }, () => 0)];
    const fixed = [0x60, 0, 0, 0, ...big(datagram - 40, 2), extra === 0 ? protocol : 60, 64];
    return [...fixed, ...source, ...target, ...option];
  }
  const fixed = [0x45 + extra, 0, ...big(datagram, 2), ...big(recipe.identification ?? 1, 2), 0x40, 0, 64, protocol];
  const header = [...fixed, 0, 0, ...source, ...target, ...Array.from({ length: extra * 4 }, () => 1)];
  header.splice(10, 2, ...big(internetChecksum(header), 2));
  return header;
}

/** Builds a frame that is right in every checksum. */
export function buildFrame(recipe: FrameRecipe): BuiltFrame {
  const addressBytes = recipe.version === 4 ? 4 : 16;
  const source = recipe.source ?? Array.from({ length: addressBytes }, (_, i) => 10 + i);
  const target = recipe.target ?? Array.from({ length: addressBytes }, (_, i) => 200 - i);
  const l4 = layer4Header(recipe);
  const ipBytes = recipe.version === 4 ? 20 + (recipe.extra ?? 0) * 4 : 40 + (recipe.extra ?? 0) * 8;
  const ip = ipHeader(recipe, ipBytes + l4.length + recipe.payload.length, source, target);
  const pseudo = (length: number): number[] => [
    ...source,
    ...target,
    ...big(length, 4),
    ...big(protocols[recipe.protocol], 4),
  ];
  const segment = [...l4, ...recipe.payload];
  const at = checksumOffset[recipe.protocol];
  if (recipe.protocol === "sctp") segment.splice(at, 4, ...big(crc32c(segment), 4).toReversed());
  else {
    const sum = internetChecksum([...pseudo(segment.length), ...segment]);
    segment.splice(at, 2, ...big(recipe.protocol === "udp" && sum === 0 ? 0xffff : sum, 2));
  }
  const ethernet = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
  const tag = recipe.vlan === undefined ? [] : [0x81, 0x00, ...big(recipe.vlan, 2)];
  const type = recipe.version === 4 ? [0x08, 0x00] : [0x86, 0xdd];
  return {
    bytes: Uint8Array.from([...ethernet, ...tag, ...type, ...ip, ...segment]),
    macBytes: 14,
    ipBytes,
    l4Bytes: l4.length,
    pseudoSum: 0xffff - internetChecksum(pseudo(segment.length)),
    pseudoSumWithoutLength: 0xffff - internetChecksum(pseudo(0)),
  };
}
