// Receive-side scaling: the Toeplitz hash over a frame's addresses and ports, and the queue that it names.
//
// Source: Intel 82599 datasheet, section 7.1.2.8; Microsoft, "Verifying the RSS Hash Calculation".
import type { FrameBytes } from "./checksum.ts";
import { RssType } from "./descriptors.ts";
import { IpProtocol, type PacketHeaders } from "./packet-headers.ts";
import {
  VFMRQC,
  VFMRQC_RSSEN,
  VFMRQC_RSS_FIELD_IPV4,
  VFMRQC_RSS_FIELD_IPV4_TCP,
  VFMRQC_RSS_FIELD_IPV6,
  VFMRQC_RSS_FIELD_IPV6_TCP,
  VFPSRTYPE,
  VFRETA,
  VFRETA_WORDS,
  VFRSSRK,
  VFRSSRK_WORDS,
} from "./registers.ts";

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const RETA = VFRETA(0) >>> 2;
const PSRTYPE = VFPSRTYPE >>> 2;
const types = RssType;
const { none } = types;
const protocols = IpProtocol;
const FIELD_IPV4 = VFMRQC_RSS_FIELD_IPV4;
const FIELD_IPV4_TCP = VFMRQC_RSS_FIELD_IPV4_TCP;
const FIELD_IPV6 = VFMRQC_RSS_FIELD_IPV6;
const FIELD_IPV6_TCP = VFMRQC_RSS_FIELD_IPV6_TCP;

/** The UDP fields of MRQC; ixgbevf never asks for them, its PF may. */
const MRQC_RSS_FIELD_IPV4_UDP = 0x0040_0000;
const MRQC_RSS_FIELD_IPV6_UDP = 0x0080_0000;
/** PSRTYPE.RQPL: how many bits of a RETA entry name a queue; 0 switches the choice off. */
const PSRTYPE_RQPL_SHIFT = 29;

const KEY_BYTES = VFRSSRK_WORDS * 4;
/** Two IPv6 addresses and two ports. */
const INPUT_BYTES_MAX = 36;
const RETA_ENTRIES_MASK = VFRETA_WORDS * 4 - 1;
const RETA_QUEUE_MASK = 0x7;

/** The 32 bits of the key that begin at a bit of it. */
function keyWindow(key: Uint8Array, bit: number): number {
  let window = 0;
  for (let i = 0; i < 32; i++) {
    const at = bit + i;
    window = (window << 1) | (((key[at >>> 3] ?? 0) >>> (7 - (at & 7))) & 1);
  }
  return window;
}

/**
 * The hash by tables: the Toeplitz hash is linear, so that each byte of the input contributes a word that depends on
 * its place and value only. 36 places of 256 words, made when the key changes.
 */
class ToeplitzHash {
  readonly #table = new Uint32Array(INPUT_BYTES_MAX * 256);

  setKey(key: Uint8Array): void {
    for (let place = 0; place < INPUT_BYTES_MAX; place++) {
      const start = place * 256;
      this.#table[start] = 0;
      for (let value = 1; value < 256; value++) {
        // The lowest bit set adds its window of the key to what the bits above it give.
        const lowest = 31 - Math.clz32(value & -value);
        const rest = this.#table[start + (value & (value - 1))] as number;
        this.#table[start + value] = rest ^ keyWindow(key, place * 8 + 7 - lowest);
      }
    }
  }

  /** Folds four bytes of input, of which the first is input byte `place`, into `hash`. Without a loop: it is as short. */
  extend4(hash: number, bytes: Uint8Array, offset: number, place: number): number {
    const table = this.#table;
    const at = place << 8;
    return (
      hash ^
      (table[at + (bytes[offset] as number)] as number) ^
      (table[at + 0x100 + (bytes[offset + 1] as number)] as number) ^
      (table[at + 0x200 + (bytes[offset + 2] as number)] as number) ^
      (table[at + 0x300 + (bytes[offset + 3] as number)] as number)
    );
  }

  /** Folds `count` bytes, a multiple of four. */
  extend(hash: number, bytes: Uint8Array, offset: number, count: number, place: number): number {
    let result = hash;
    for (let i = 0; i < count; i += 4) result = this.extend4(result, bytes, offset + i, place + i);
    return result;
  }
}

/** RSS as its registers set it. The last frame's hash and type stay in the fields. */
export class Rss {
  type: RssType = none;
  readonly #registers: Uint32Array;
  readonly #toeplitz = new ToeplitzHash();
  readonly #key = new Uint8Array(KEY_BYTES);
  #hasKey = false;
  #hash = 0;
  #fields = 0;

  constructor(registers: Uint32Array) {
    this.#registers = registers;
    this.configure();
  }

  /** Unsigned; 0 for a frame that is not hashed. */
  get hash(): number {
    return this.#hash >>> 0;
  }

  /** Reads VFMRQC and the key; called after they changed. The key's tables are made when something is hashed by it. */
  configure(): void {
    const control = this.#registers[VFMRQC >>> 2] as number;
    this.#fields = (control & VFMRQC_RSSEN) !== 0 ? control : 0;
    if (this.#fields !== 0 && this.#readKey()) this.#toeplitz.setKey(this.#key);
  }

  /** True if the key is another than it was. */
  #readKey(): boolean {
    let isOther = !this.#hasKey;
    this.#hasKey = true;
    for (let i = 0; i < KEY_BYTES; i++) {
      // The first byte of the key lies in the lowest bits of the first register.
      const byte = ((this.#registers[VFRSSRK(i >>> 2) >>> 2] as number) >>> (8 * (i & 3))) & 0xff;
      isOther ||= this.#key[i] !== byte;
      this.#key[i] = byte;
    }
    return isOther;
  }

  /** Hashes the frame and names its queue: 0 for what is not hashed. */
  classify(frame: FrameBytes, headers: PacketHeaders): number {
    this.#hash = 0;
    this.type = none;
    if (this.#fields === 0 || headers.ipVersion === 0) return 0;
    if (headers.ipVersion === 4) this.#hashIpv4(frame.bytes, headers);
    else this.#hashIpv6(frame.bytes, headers);
    if (this.type === none) return 0;
    const entry = this.#hash & RETA_ENTRIES_MASK;
    const word = this.#registers[RETA + (entry >>> 2)] as number;
    const queueBits = (this.#registers[PSRTYPE] as number) >>> PSRTYPE_RQPL_SHIFT;
    return (word >>> (8 * (entry & 3))) & RETA_QUEUE_MASK & ((1 << queueBits) - 1);
  }

  #hashIpv4(bytes: Uint8Array, headers: PacketHeaders): void {
    const { l4Protocol } = headers;
    if (l4Protocol === protocols.tcp && (this.#fields & FIELD_IPV4_TCP) !== 0) this.type = types.ipv4Tcp;
    else if (l4Protocol === protocols.udp && (this.#fields & MRQC_RSS_FIELD_IPV4_UDP) !== 0) this.type = types.ipv4Udp;
    else if ((this.#fields & FIELD_IPV4) !== 0) this.type = types.ipv4;
    else return;
    let hash = this.#toeplitz.extend(0, bytes, headers.ipOffset + 12, 8, 0);
    if (this.type !== types.ipv4) hash = this.#toeplitz.extend(hash, bytes, headers.l4Offset, 4, 8);
    this.#hash = hash;
  }

  #hashIpv6(bytes: Uint8Array, headers: PacketHeaders): void {
    const { l4Protocol } = headers;
    if (l4Protocol === protocols.tcp && (this.#fields & FIELD_IPV6_TCP) !== 0) this.type = types.ipv6Tcp;
    else if (l4Protocol === protocols.udp && (this.#fields & MRQC_RSS_FIELD_IPV6_UDP) !== 0) this.type = types.ipv6Udp;
    else if ((this.#fields & FIELD_IPV6) !== 0) this.type = types.ipv6;
    else return;
    let hash = this.#toeplitz.extend(0, bytes, headers.ipOffset + 8, 32, 0);
    if (this.type !== types.ipv6) hash = this.#toeplitz.extend(hash, bytes, headers.l4Offset, 4, 32);
    this.#hash = hash;
  }
}
