// The two context slots of a transmit queue: hidden state that the offloads of later frames refer to.
import type { TransmitContextState } from "./datapath-ports.ts";
import {
  TXC_IPLEN_MASK,
  TXC_L4LEN_MASK,
  TXC_L4LEN_SHIFT,
  TXC_L4T_MASK,
  TXC_MACLEN_MASK,
  TXC_MACLEN_SHIFT,
  TXC_MSS_SHIFT,
  TXC_TUCMD_IPV4,
  TXC_VLAN_SHIFT,
} from "./descriptors.ts";

/** One slot: the words of the last context descriptor with its index, and their fields. */
export class TransmitContext {
  valid = false;
  #vlanMacipLens = 0;
  #typeTucmdMlhl = 0;
  #mssL4lenIdx = 0;

  set(vlanMacipLens: number, typeTucmdMlhl: number, mssL4lenIdx: number): void {
    this.valid = true;
    this.#vlanMacipLens = vlanMacipLens;
    this.#typeTucmdMlhl = typeTucmdMlhl;
    this.#mssL4lenIdx = mssL4lenIdx;
  }

  /** Bytes before the IP header. */
  get macBytes(): number {
    return (this.#vlanMacipLens >>> TXC_MACLEN_SHIFT) & TXC_MACLEN_MASK;
  }

  /** Bytes from the IP header up to the layer 4 header. */
  get ipBytes(): number {
    return this.#vlanMacipLens & TXC_IPLEN_MASK;
  }

  get l4Bytes(): number {
    return (this.#mssL4lenIdx >>> TXC_L4LEN_SHIFT) & TXC_L4LEN_MASK;
  }

  /** Tag control information to insert. */
  get vlanTag(): number {
    return this.#vlanMacipLens >>> TXC_VLAN_SHIFT;
  }

  /** Payload bytes of one segment. */
  get segmentBytes(): number {
    return this.#mssL4lenIdx >>> TXC_MSS_SHIFT;
  }

  get isIpv4(): boolean {
    return (this.#typeTucmdMlhl & TXC_TUCMD_IPV4) !== 0;
  }

  /** TXC_L4T_TCP, TXC_L4T_UDP or TXC_L4T_SCTP; the fourth value is reserved. */
  get l4Type(): number {
    return this.#typeTucmdMlhl & TXC_L4T_MASK;
  }

  clear(): void {
    this.set(0, 0, 0);
    this.valid = false;
  }

  save(): TransmitContextState {
    return {
      valid: this.valid,
      vlanMacipLens: this.#vlanMacipLens,
      typeTucmdMlhl: this.#typeTucmdMlhl,
      mssL4lenIdx: this.#mssL4lenIdx,
    };
  }

  restore(state: TransmitContextState): void {
    this.set(state.vlanMacipLens, state.typeTucmdMlhl, state.mssL4lenIdx);
    this.valid = state.valid;
  }
}
