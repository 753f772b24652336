// The part of a guest's driver that speaks to the PF, as ixgbevf does: mailbox handshakes, reset, negotiation, link.
import { MailboxApi, MESSAGE_ACK, MESSAGE_CTS, MESSAGE_NACK, MessageType } from "./mailbox-messages.ts";
import {
  VFCTRL,
  VFCTRL_RST,
  VFLINKS,
  VFLINKS_UP,
  VFMAILBOX,
  VFMAILBOX_ACK,
  VFMAILBOX_PFACK,
  VFMAILBOX_PFSTS,
  VFMAILBOX_READ_TO_CLEAR,
  VFMAILBOX_REQ,
  VFMAILBOX_RSTD,
  VFMAILBOX_RSTI,
  VFMAILBOX_VFU,
  VFMBMEM,
  VFSTATUS,
  VTEICR,
  VTEIMC,
} from "./registers.ts";

/** BAR0 as a driver reaches it. */
export interface RegisterAccess {
  read(offset: number): number;
  write(offset: number, value: number): void;
}

/** The VF or its PF did what a driver cannot go on with. Thrown inside the guest; whoever runs the guest catches it. */
export class DriverTrouble extends Error {
  override readonly name = "DriverTrouble";
}

function expect(condition: boolean, trouble: string): asserts condition {
  if (!condition) throw new DriverTrouble(trouble);
}

/** mbx.c: both sets of operations, chosen by `strict`. */
class MailboxDriver {
  /** The handshake of API 1.5 and FEATURES (ixgbevf_mbx_ops) instead of the legacy one. */
  strict = false;
  /** Bits of VFMAILBOX that reading cleared and nobody has asked for yet. */
  sticky = 0;
  readonly #access: RegisterAccess;

  constructor(access: RegisterAccess) {
    this.#access = access;
  }

  /** ixgbevf_write_msg_read_ack: sends a request and returns the answer's words. */
  request(words: readonly number[], answerWords = words.length): number[] {
    this.send(words);
    return this.receive(answerWords);
  }

  send(words: readonly number[]): void {
    this.#lock();
    this.sticky &= ~(VFMAILBOX_PFSTS | VFMAILBOX_PFACK);
    this.#control();
    this.sticky &= ~(VFMAILBOX_PFSTS | VFMAILBOX_PFACK);
    for (const [i, word] of words.entries()) this.#access.write(VFMBMEM(i), word >>> 0);
    if (!this.strict) {
      this.#access.write(VFMAILBOX, VFMAILBOX_REQ);
      return;
    }
    this.#access.write(VFMAILBOX, this.#control() | VFMAILBOX_REQ);
    expect(this.#take(VFMAILBOX_PFACK), "the PF did not acknowledge");
    this.#access.write(VFMAILBOX, this.#control() & ~VFMAILBOX_VFU);
  }

  receive(words: number): number[] {
    expect(this.#take(VFMAILBOX_PFSTS), "the PF did not answer");
    return this.#readAndAcknowledge(words);
  }

  /** mbx.ops.read as check_mac_link_vf calls it: the legacy one reads without asking whether there is a message. */
  peek(): number | undefined {
    if (this.strict && !this.#take(VFMAILBOX_PFSTS)) return undefined;
    return this.#readAndAcknowledge(1)[0];
  }

  /** check_for_rst: whether the PF has reset since last asked. */
  pfHasReset(): boolean {
    return this.#take(VFMAILBOX_RSTD | VFMAILBOX_RSTI);
  }

  #readAndAcknowledge(words: number): number[] {
    if (!this.strict) this.#lock();
    const message = Array.from({ length: words }, (_, i) => this.#access.read(VFMBMEM(i)));
    this.#access.write(VFMAILBOX, this.strict ? this.#control() | VFMAILBOX_ACK : VFMAILBOX_ACK);
    return message;
  }

  #lock(): void {
    this.#access.write(VFMAILBOX, this.#control() | VFMAILBOX_VFU);
    expect((this.#control() & VFMAILBOX_VFU) !== 0, "the mailbox was not granted");
  }

  #take(bits: number): boolean {
    const isSet = (this.#control() & bits) !== 0;
    this.sticky &= ~bits;
    return isSet;
  }

  /** ixgbevf_read_mailbox_vf: remembers the bits that reading clears. */
  #control(): number {
    const value = this.#access.read(VFMAILBOX) | this.sticky;
    this.sticky |= value & VFMAILBOX_READ_TO_CLEAR;
    return value;
  }
}

/** What the driver remembers between two calls. */
export interface VfDriverState {
  readonly mac: readonly number[];
  readonly api: number;
  readonly getLinkStatus: boolean;
  readonly strictMailbox: boolean;
  readonly stickyMailboxBits: number;
}

/** vf.c and the parts of ixgbevf_main.c that decide when to start over. Every method may throw DriverTrouble. */
export class VfDriver {
  readonly mailbox: MailboxDriver;
  readonly #access: RegisterAccess;
  mac: readonly number[] = [];
  api: number = MailboxApi.v10;
  getLinkStatus = true;

  constructor(access: RegisterAccess) {
    this.#access = access;
    this.mailbox = new MailboxDriver(access);
  }

  /** ixgbevf_reset_hw_vf. */
  reset(): void {
    this.#access.write(VTEIMC, 7);
    this.#access.read(VTEICR);
    this.mailbox.strict = false;
    this.#access.write(VFCTRL, VFCTRL_RST);
    this.#access.read(VFSTATUS);
    for (let tries = 0; this.mailbox.pfHasReset(); tries++) expect(tries < 3, "the PF stays in reset");
    const answer = this.mailbox.request([MessageType.reset], 4);
    const [word = 0] = answer;
    const isAnswer = word === (MessageType.reset | MESSAGE_ACK) >>> 0 || word === (MessageType.reset | MESSAGE_NACK);
    expect(isAnswer, `the PF answered RESET with 0x${word.toString(16)}`);
    this.mac = [0, 1, 2, 3, 4, 5].map((i) => ((answer[1 + (i >>> 2)] ?? 0) >>> (8 * (i & 3))) & 0xff);
  }

  /** ixgbevf_negotiate_api: from the newest down, then the features. */
  negotiate(newest: number = MailboxApi.v17): void {
    for (const api of [8, 7, 6, 5, 4, 3, 2, 0]) {
      if (api > newest) continue;
      this.api = api;
      if (this.isAccepted([MessageType.negotiateApi, api, 0])) break;
    }
    const features = this.api === MailboxApi.v17 ? this.mailbox.request([MessageType.negotiateFeatures, 3])[1] : 0;
    this.mailbox.strict = this.api === MailboxApi.v15 || features === 2;
  }

  /** Sends a request; true for ACK. A reply must repeat the type and carry CTS. */
  isAccepted(words: readonly number[]): boolean {
    const answer = this.mailbox.request(words)[0] ?? 0;
    const isAck = (answer & MESSAGE_ACK) !== 0;
    const flags = (isAck ? MESSAGE_ACK : MESSAGE_NACK) | MESSAGE_CTS;
    const expected = ((words[0] ?? 0) | flags) >>> 0;
    expect(answer === expected, `the PF answered 0x${answer.toString(16)} where 0x${expected.toString(16)} was due`);
    return isAck;
  }

  /** ixgbevf_check_mac_link_vf: what the driver makes of the link, and whether it must start over. */
  checkLink(): { up: boolean; mustReset: boolean } {
    if (this.mailbox.pfHasReset()) this.getLinkStatus = true;
    if (!this.getLinkStatus) return { up: true, mustReset: false };
    if ((this.#access.read(VFLINKS) & VFLINKS_UP) === 0) return { up: false, mustReset: false };
    const message = this.mailbox.peek();
    if (message === undefined) this.getLinkStatus = false;
    else if ((message & MESSAGE_CTS) === 0) return { up: false, mustReset: (message & MESSAGE_NACK) !== 0 };
    else this.getLinkStatus = false;
    return { up: true, mustReset: false };
  }

  save(): VfDriverState {
    const { mac, api, getLinkStatus, mailbox } = this;
    return { mac, api, getLinkStatus, strictMailbox: mailbox.strict, stickyMailboxBits: mailbox.sticky };
  }

  restore(state: VfDriverState): void {
    this.mac = state.mac;
    this.api = state.api;
    this.getLinkStatus = state.getLinkStatus;
    this.mailbox.strict = state.strictMailbox;
    this.mailbox.sticky = state.stickyMailboxBits;
  }
}
