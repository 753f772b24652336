// The PF's switch as far as one VF sees it: which frames are handed to the VF, and which it may send.
import { assert } from "../base/assert.ts";
import { CastMode } from "./mailbox-messages.ts";
import { MAC_BYTES } from "./mac-address.ts";

/** Extra unicast addresses of one VF; an 82599 has 128 in all for its VFs and itself. */
export const MAC_VLANS_MAX = 32;
/** VLANs of one VF, VLAN 0 among them; the pool filter of an 82599 (VLVF) has 64 entries. */
export const VLANS_MAX = 64;
const VLAN_IDS = 4096;
const HASHES = 4096;

const ETHERNET_HEADER_BYTES = 14;
const TAGGED_HEADER_BYTES = 18;
const VLAN_ETHERTYPE = 0x8100;

/** Why a frame is not for the VF, or `accepted`. Small integers: asked once a frame. */
export const FilterVerdict = {
  accepted: 0,
  /** Shorter than an Ethernet header. */
  runt: 1,
  /** Another station's address, or a multicast address nobody asked for. */
  otherAddress: 2,
  /** A VLAN the VF is no member of. */
  otherVlan: 3,
} as const;
export type FilterVerdict = (typeof FilterVerdict)[keyof typeof FilterVerdict];

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const verdicts = FilterVerdict;
const modes = CastMode;
const MAC = MAC_BYTES;

/**
 * Filters of one VF: its MAC address and MACVLANs, multicast by hash, VLAN membership (82599 datasheet, section 7.10;
 * VMOLR bits as ixgbe sets them). Broadcasts are always accepted, untagged frames too; VLAN 0 is a member from the
 * start.
 */
export class SwitchFilter {
  castMode: CastMode = modes.none;
  /** Anti-spoofing: frames the VF sends must carry its own address and one of its VLANs. */
  spoofCheck = true;
  /** Unicast addresses, the VF's own first, split in 16 and 32 bits for comparing without a loop over bytes. */
  readonly #high = new Uint16Array(1 + MAC_VLANS_MAX);
  readonly #low = new Uint32Array(1 + MAC_VLANS_MAX);
  #hasAddress = false;
  #macVlans = 0;
  readonly #hashes = new Uint32Array(HASHES / 32);
  readonly #vlans = new Uint32Array(VLAN_IDS / 32);
  #vlanCount = 0;

  constructor() {
    this.addVlan(0);
  }

  /** The VF's own address; undefined takes the filter away, so that no unicast frame reaches it. */
  setAddress(mac: Uint8Array | undefined): void {
    this.#hasAddress = mac !== undefined;
    if (mac !== undefined) this.#store(0, mac);
  }

  /** Adds an address; false if there is no room. */
  addMacVlan(mac: Uint8Array): boolean {
    if (this.#macVlans === MAC_VLANS_MAX) return false;
    this.#macVlans++;
    this.#store(this.#macVlans, mac);
    return true;
  }

  clearMacVlans(): void {
    this.#macVlans = 0;
  }

  /** Replaces the multicast hashes, 12 bits each. */
  setHashes(hashes: readonly number[]): void {
    this.#hashes.fill(0);
    for (const hash of hashes) setBit(this.#hashes, hash & (HASHES - 1), true);
  }

  /** Adds a VLAN; false if there is no room. */
  addVlan(id: number): boolean {
    assert(id >= 0 && id < VLAN_IDS, `VLAN ${id}`);
    if (hasBit(this.#vlans, id)) return true;
    if (this.#vlanCount === VLANS_MAX) return false;
    this.#vlanCount++;
    setBit(this.#vlans, id, true);
    return true;
  }

  removeVlan(id: number): void {
    if (!hasBit(this.#vlans, id)) return;
    this.#vlanCount--;
    setBit(this.#vlans, id, false);
  }

  /** Back to what a VF has after a reset: no address, VLAN 0 only, broadcasts only. */
  reset(): void {
    this.castMode = modes.none;
    this.setAddress(undefined);
    this.clearMacVlans();
    this.setHashes([]);
    this.#vlans.fill(0);
    this.#vlanCount = 0;
    this.addVlan(0);
    this.spoofCheck = true;
  }

  verdict(frame: Uint8Array): FilterVerdict {
    if (frame.length < ETHERNET_HEADER_BYTES) return verdicts.runt;
    if (!this.#acceptsAddress(frame)) return verdicts.otherAddress;
    return this.#isInVlan(frame) ? verdicts.accepted : verdicts.otherVlan;
  }

  /** Whether the VF may send the frame. */
  maySend(frame: Uint8Array): boolean {
    if (!this.spoofCheck) return true;
    const high = half(frame, MAC);
    const low = word(frame, MAC + 2);
    return this.#hasAddress && high === this.#high[0] && low === this.#low[0] && this.#isInVlan(frame);
  }

  get hasAddress(): boolean {
    return this.#hasAddress;
  }

  get macVlans(): Uint8Array[] {
    return Array.from({ length: this.#macVlans }, (_, i) => this.#load(1 + i));
  }

  get hashes(): number[] {
    return bits(this.#hashes);
  }

  get vlans(): number[] {
    return bits(this.#vlans);
  }

  #acceptsAddress(frame: Uint8Array): boolean {
    const high = half(frame, 0);
    const low = word(frame, 2);
    if ((high & 0x0100) === 0) return this.castMode === modes.promiscuous || this.#isOurs(high, low);
    if (high === 0xffff && low === 0xffff_ffff) return true;
    if (this.castMode >= modes.allMulticast) return true;
    return this.castMode === modes.multicast && hasBit(this.#hashes, multicastHash(low));
  }

  #isOurs(high: number, low: number): boolean {
    for (let i = this.#hasAddress ? 0 : 1; i <= this.#macVlans; i++) {
      if (this.#low[i] === low && this.#high[i] === high) return true;
    }
    return false;
  }

  #isInVlan(frame: Uint8Array): boolean {
    if (half(frame, 2 * MAC) !== VLAN_ETHERTYPE) return true;
    return frame.length >= TAGGED_HEADER_BYTES && hasBit(this.#vlans, half(frame, ETHERNET_HEADER_BYTES) & 0xfff);
  }

  #store(index: number, mac: Uint8Array): void {
    this.#high[index] = half(mac, 0);
    this.#low[index] = word(mac, 2);
  }

  #load(index: number): Uint8Array {
    const high = this.#high[index] ?? 0;
    const low = this.#low[index] ?? 0;
    return Uint8Array.of(high >>> 8, high, low >>> 24, low >>> 16, low >>> 8, low);
  }
}

/** Bits 47:36 of the address in wire order, filter type 0 (ixgbevf_mta_vector): of the last two bytes the upper 12. */
function multicastHash(low: number): number {
  return ((low >>> 12) & 0xf) | ((low & 0xff) << 4);
}

const half = (bytes: Uint8Array, offset: number): number =>
  ((bytes[offset] as number) << 8) | (bytes[offset + 1] as number);
const word = (bytes: Uint8Array, offset: number): number =>
  ((half(bytes, offset) << 16) | half(bytes, offset + 2)) >>> 0;
const hasBit = (words: Uint32Array, bit: number): boolean => (((words[bit >>> 5] as number) >>> (bit & 31)) & 1) !== 0;

function setBit(words: Uint32Array, bit: number, value: boolean): void {
  const mask = 1 << (bit & 31);
  const old = words[bit >>> 5] as number;
  words[bit >>> 5] = value ? old | mask : old & ~mask;
}

function bits(set: Uint32Array): number[] {
  const found: number[] = [];
  // Mostly empty, and asked for while a guest stands still: whole words are passed over.
  for (const [index, members] of set.entries()) {
    for (let rest = members; rest !== 0; rest &= rest - 1) found.push(index * 32 + 31 - Math.clz32(rest & -rest));
  }
  return found;
}
