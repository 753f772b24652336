// Receive-side scaling as the PF sets it up for a VF of an 82599: the guest can ask for it, but not change it.
import {
  VFMRQC,
  VFMRQC_RSSEN,
  VFMRQC_RSS_FIELD_IPV4,
  VFMRQC_RSS_FIELD_IPV4_TCP,
  VFMRQC_RSS_FIELD_IPV6,
  VFMRQC_RSS_FIELD_IPV6_TCP,
  VFRETA,
  VFRETA_WORDS,
  VFRSSRK,
  VFRSSRK_WORDS,
} from "./registers.ts";

/** The key of Microsoft's RSS verification suite, in register order: known answers exist for it. */
const rssKey = new Uint32Array([
  0xda56_5a6d, 0xc20e_5b25, 0x3d25_6741, 0xb08f_a343, 0xcb2b_cad0, 0xb430_7bae, 0xa32d_cb77, 0x0cf2_3080, 0x3bb7_426a,
  0xfa01_acbe,
]);

/** Spreads flows over the VF's queues evenly; VFPSRTYPE.RQPL of the guest says how many of them it uses. */
export function programRss(registers: Uint32Array, queuePairs: number): void {
  registers[VFMRQC >>> 2] =
    VFMRQC_RSSEN |
    VFMRQC_RSS_FIELD_IPV4 |
    VFMRQC_RSS_FIELD_IPV4_TCP |
    VFMRQC_RSS_FIELD_IPV6 |
    VFMRQC_RSS_FIELD_IPV6_TCP;
  for (let i = 0; i < VFRSSRK_WORDS; i++) registers[VFRSSRK(i) >>> 2] = rssKey[i] as number;
  for (let entry = 0; entry < 4 * VFRETA_WORDS; entry++) {
    const index = VFRETA(entry >>> 2) >>> 2;
    registers[index] = (registers[index] as number) | ((entry % queuePairs) << (8 * (entry & 3)));
  }
}
