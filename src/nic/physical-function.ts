// The PF behind the mailbox: it admits a VF after its RESET, answers its requests, tells it of link changes and resets.
import type { Clock } from "../base/clock.ts";
import { Mailbox } from "./mailbox.ts";
import type { MailboxPeer, MailboxState } from "./mailbox.ts";
import {
  MailboxApi,
  MESSAGE_ACK,
  MESSAGE_CTS,
  MESSAGE_NACK,
  MessageType,
  PF_CONTROL_MESSAGE,
} from "./mailbox-messages.ts";
import type { CastMode } from "./mailbox-messages.ts";
import { isZero, macFromText, macToText } from "./mac-address.ts";
import { answerRequest, FRAME_LIMIT_BYTES_DEFAULT } from "./pf-requests.ts";
import type { VfRecord } from "./pf-requests.ts";
import {
  VFLINKS,
  VFLINKS_SPEED_100M,
  VFLINKS_SPEED_10G,
  VFLINKS_SPEED_1G,
  VFLINKS_UP,
  VFMBMEM_WORDS,
} from "./registers.ts";
import { programRss } from "./pf-rss.ts";
import { SwitchFilter } from "./switch-filter.ts";

/** Link speeds an 82599 has. */
export type LinkSpeedMbps = 100 | 1000 | 10_000;

export interface LinkState {
  readonly up: boolean;
  readonly speedMbps: LinkSpeedMbps;
}

function linkRegister(link: LinkState): number {
  const speeds = { 100: VFLINKS_SPEED_100M, 1000: VFLINKS_SPEED_1G, 10_000: VFLINKS_SPEED_10G };
  return link.up ? VFLINKS_UP | speeds[link.speedMbps] : 0;
}

/** How long the PF takes to answer an acknowledgement that it refuses (see acknowledged()). */
const REFUSAL_DELAY_MS = 10;
/** Words of the reply to RESET (IXGBE_VF_PERMADDR_MSG_LEN). */
const RESET_REPLY_WORDS = 4;
/** How the driver is to hash multicast addresses: by bits 47:36. */
const MULTICAST_FILTER_TYPE = 0;

export interface PhysicalFunctionOptions {
  readonly registers: Uint32Array;
  readonly clock: Clock;
  /** The address the host gives the VF; all zero leaves the choice to the guest. */
  readonly mac: Uint8Array;
  readonly queuePairs: number;
  readonly apiMax: MailboxApi;
  readonly trusted: boolean;
  /** The link at power-on; the VF is not told. */
  readonly link: LinkState;
  /** Sets the mailbox's interrupt cause. */
  readonly raise: () => void;
  /** The VF has reset: zero the head write-back addresses, which neither FLR nor VFCTRL.RST clears. */
  readonly clearHeadWriteBack: () => void;
  /** A request was carried out: the frame limit or whether frames are received may have changed. */
  readonly onRecordChanged: () => void;
  /** There is a new deadline to keep. */
  readonly onDeadline: () => void;
}

export interface PhysicalFunctionState {
  readonly clearToSend: boolean;
  readonly api: number;
  readonly mac: string;
  readonly macAssigned: boolean;
  /** Whether frames to `mac` are handed to the VF: not between its reset and its RESET message. */
  readonly addressFiltered: boolean;
  readonly macVlans: readonly string[];
  readonly multicastHashes: readonly number[];
  readonly castMode: number;
  readonly vlans: readonly number[];
  readonly spoofCheck: boolean;
  readonly frameLimitBytes: number;
  readonly receiveEnabled: boolean;
  /** Microseconds until the PF refuses an acknowledgement, -1 if it is not about to. */
  readonly refusalDueUs: number;
  readonly mailbox: MailboxState;
}

/** The PF driver as one VF knows it: ixgbe_sriov.c of Linux 6.1, with the API versions ixgbevf can ask for. */
export class PhysicalFunction implements MailboxPeer {
  readonly filter = new SwitchFilter();
  readonly mailbox: Mailbox;
  readonly requests = { accepted: 0, refused: 0 };
  readonly #options: PhysicalFunctionOptions;
  readonly #vf: VfRecord;
  readonly #message = new Uint32Array(VFMBMEM_WORDS);
  #clearToSend = false;
  #refusalAtMs = Infinity;

  constructor(options: PhysicalFunctionOptions) {
    this.#options = options;
    this.mailbox = new Mailbox({ registers: options.registers, peer: this, raise: options.raise });
    this.#vf = {
      filter: this.filter,
      registers: options.registers,
      queuePairs: options.queuePairs,
      apiMax: options.apiMax,
      trusted: options.trusted,
      api: MailboxApi.v10,
      mac: options.mac.slice(),
      macAssigned: !isZero(options.mac),
      frameLimitBytes: FRAME_LIMIT_BYTES_DEFAULT,
      receiveEnabled: false,
    };
    options.registers[VFLINKS >>> 2] = linkRegister(options.link);
    programRss(options.registers, options.queuePairs);
  }

  /** The longest frame handed to the VF, in bytes with FCS and without VLAN tag. */
  get frameLimitBytes(): number {
    return this.#vf.frameLimitBytes;
  }

  get receiveEnabled(): boolean {
    return this.#vf.receiveEnabled;
  }

  /** A RESET of the VF has been answered and not been withdrawn since. */
  get clearToSend(): boolean {
    return this.#clearToSend;
  }

  /** The address in use: the assigned one, or what the guest has set. */
  get mac(): Uint8Array {
    return this.#vf.mac.slice();
  }

  /** The VF sent a message: ixgbe_rcv_msg_from_vf. */
  requested(): void {
    const message = this.#message;
    this.mailbox.take(message);
    const request = message[0] as number;
    // An answer that comes back was dealt with already.
    if ((request & (MESSAGE_ACK | MESSAGE_NACK)) !== 0) return;
    if (request === MessageType.reset) {
      this.#answerReset();
      return;
    }
    if (!this.#clearToSend) {
      this.requests.refused++;
      message[0] = request | MESSAGE_NACK;
      this.mailbox.reply(message, 1);
      return;
    }
    const accepted = answerRequest(this.#vf, message);
    if (accepted) this.requests.accepted++;
    else this.requests.refused++;
    message[0] = request | (accepted ? MESSAGE_ACK : MESSAGE_NACK) | MESSAGE_CTS;
    this.#options.onRecordChanged();
    this.mailbox.reply(message, VFMBMEM_WORDS);
  }

  /**
   * The VF acknowledged a message: ixgbe_rcv_ack_from_vf. A VF that is not clear to send should not be reading and is
   * told so, a moment later: the time the PF's interrupt and lock take on real hardware, and what lets the driver's
   * service task end before the next interrupt asks for it again.
   */
  acknowledged(): void {
    if (this.#clearToSend) return;
    this.#refusalAtMs = this.#options.clock.nowMs() + REFUSAL_DELAY_MS;
    this.#options.onDeadline();
  }

  /** The VF was reset by FLR or VFCTRL.RST (VFLRE): ixgbe_vf_reset_event. It stays clear to send, as in Linux. */
  functionReset(): void {
    this.filter.reset();
    this.#vf.api = MailboxApi.v10;
    this.#refusalAtMs = Infinity;
    this.mailbox.reset();
    this.#options.onRecordChanged();
  }

  /** Withdraws CTS and says so, which makes the driver start over. See Vf82599.pfReset for what happens then. */
  withdraw(): void {
    this.functionReset();
    this.#clearToSend = false;
    this.#vf.receiveEnabled = false;
    this.mailbox.announceReset();
    this.#post(PF_CONTROL_MESSAGE | MESSAGE_NACK);
  }

  /** Sets VFLINKS and pings the VF, whose driver then looks at it (ixgbevf_msix_other, check_mac_link_vf). */
  setLink(link: LinkState): void {
    const links = linkRegister(link);
    if (this.#options.registers[VFLINKS >>> 2] === links) return;
    this.#options.registers[VFLINKS >>> 2] = links;
    this.ping();
  }

  /** A message that says nothing but that the PF is there and whether the VF is clear to send. */
  ping(): void {
    this.#post(PF_CONTROL_MESSAGE | (this.#clearToSend ? MESSAGE_CTS : 0));
  }

  /** Clock time of the PF's next deed, Infinity if there is none. */
  deadlineMs(): number {
    return this.#refusalAtMs;
  }

  /** Does what is due. */
  advance(): void {
    if (this.#refusalAtMs === Infinity || this.#options.clock.nowMs() < this.#refusalAtMs) return;
    this.#refusalAtMs = Infinity;
    if (!this.#clearToSend) this.#post(MESSAGE_NACK);
  }

  save(): PhysicalFunctionState {
    const { filter } = this;
    const vf = this.#vf;
    const dueMs = this.#refusalAtMs - this.#options.clock.nowMs();
    return {
      clearToSend: this.#clearToSend,
      api: vf.api,
      mac: macToText(vf.mac),
      macAssigned: vf.macAssigned,
      addressFiltered: filter.hasAddress,
      macVlans: filter.macVlans.map(macToText),
      multicastHashes: filter.hashes,
      castMode: filter.castMode,
      vlans: filter.vlans,
      spoofCheck: filter.spoofCheck,
      frameLimitBytes: vf.frameLimitBytes,
      receiveEnabled: vf.receiveEnabled,
      refusalDueUs: dueMs === Infinity ? -1 : Math.max(0, Math.round(dueMs * 1000)),
      mailbox: this.mailbox.save(),
    };
  }

  /** Loads what save() gave; the registers (link, RSS, mailbox words) are restored by their own way. */
  restore(state: PhysicalFunctionState): void {
    const { filter } = this;
    const vf = this.#vf;
    this.#clearToSend = state.clearToSend;
    vf.api = state.api as MailboxApi;
    vf.mac = macFromText(state.mac);
    vf.macAssigned = state.macAssigned;
    vf.frameLimitBytes = state.frameLimitBytes;
    vf.receiveEnabled = state.receiveEnabled;
    filter.reset();
    if (state.addressFiltered) filter.setAddress(vf.mac);
    for (const mac of state.macVlans) filter.addMacVlan(macFromText(mac));
    filter.setHashes(state.multicastHashes);
    filter.castMode = state.castMode as CastMode;
    for (const id of state.vlans) filter.addVlan(id);
    filter.spoofCheck = state.spoofCheck;
    this.#refusalAtMs = state.refusalDueUs < 0 ? Infinity : this.#options.clock.nowMs() + state.refusalDueUs / 1000;
    this.mailbox.restore(state.mailbox);
    this.#options.onRecordChanged();
  }

  /** ixgbe_vf_reset_msg: filters back to their defaults, then the address, then the answer with it. */
  #answerReset(): void {
    const vf = this.#vf;
    this.functionReset();
    this.mailbox.clearMemory();
    if (!isZero(vf.mac)) this.filter.setAddress(vf.mac);
    vf.receiveEnabled = true;
    this.#clearToSend = true;
    this.requests.accepted++;
    this.#options.clearHeadWriteBack();
    this.#options.onRecordChanged();

    const message = this.#message.fill(0);
    message[0] = MessageType.reset | (vf.macAssigned ? MESSAGE_ACK : MESSAGE_NACK);
    if (vf.macAssigned) for (const [i, byte] of vf.mac.entries()) message[1 + (i >>> 2)] = orByte(message, i, byte);
    message[3] = MULTICAST_FILTER_TYPE;
    this.mailbox.reply(message, RESET_REPLY_WORDS);
  }

  #post(word: number): void {
    this.#message[0] = word;
    this.mailbox.post(this.#message, 1);
  }
}

function orByte(words: Uint32Array, byteIndex: number, byte: number): number {
  return ((words[1 + (byteIndex >>> 2)] as number) | (byte << (8 * (byteIndex & 3)))) >>> 0;
}
