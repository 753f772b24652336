// The IEEE 802.1Q tag: taken out of received frames and put into sent ones.
import { swap16, type FrameBytes } from "./checksum.ts";
import { ETHERNET_ADDRESSES_BYTES, VLAN_TAG_BYTES } from "./frame-limits.ts";
import { ETHERTYPE_VLAN_HALF } from "./packet-headers.ts";

/** The tag control information (priority, DEI, VLAN number) of a tagged frame. */
export function vlanTag(frame: FrameBytes, offset: number): number {
  return swap16(frame.halves[(offset + ETHERNET_ADDRESSES_BYTES + 2) >>> 1] as number);
}

/** Closes the gap of the tag from the front: the frame begins VLAN_TAG_BYTES later. `offset` is a multiple of 4. */
export function stripVlanTag(frame: FrameBytes, offset: number): void {
  const { words } = frame;
  const first = offset >>> 2;
  words[first + 3] = words[first + 2] as number;
  words[first + 2] = words[first + 1] as number;
  words[first + 1] = words[first] as number;
}

/** Opens a gap for the tag at the front: the frame begins VLAN_TAG_BYTES earlier, where there must be room. */
export function insertVlanTag(frame: FrameBytes, offset: number, tag: number): void {
  const { words, halves } = frame;
  const first = (offset - VLAN_TAG_BYTES) >>> 2;
  words[first] = words[first + 1] as number;
  words[first + 1] = words[first + 2] as number;
  words[first + 2] = words[first + 3] as number;
  halves[(first << 1) + 6] = ETHERTYPE_VLAN_HALF;
  halves[(first << 1) + 7] = swap16(tag);
}
