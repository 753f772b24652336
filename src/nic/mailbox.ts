// The mailbox between VF and PF: sixteen words, one control register, and who may write them when.
import {
  VFMAILBOX,
  VFMAILBOX_ACK,
  VFMAILBOX_PFACK,
  VFMAILBOX_PFSTS,
  VFMAILBOX_REQ,
  VFMAILBOX_RSTD,
  VFMAILBOX_VFU,
  VFMBMEM,
  VFMBMEM_WORDS,
} from "./registers.ts";

/** The PF's end of the mailbox. */
export interface MailboxPeer {
  /** The VF set REQ: a message lies in the mailbox. */
  requested(): void;
  /** The VF set ACK: it has read what the PF wrote. */
  acknowledged(): void;
}

/** What VFMAILBOX and VFMBMEM do not say. */
export interface MailboxState {
  /** The PF's reply that waits for the VF to let go of the buffer, empty if none. */
  readonly waitingReply: readonly number[];
  /** The PF's own message that waits, empty if none. */
  readonly waitingControl: readonly number[];
  /** The reply in the buffer has not been acknowledged. */
  readonly replyUnread: boolean;
}

/**
 * VFMAILBOX and VFMBMEM (82599 datasheet, section 8.3.5.1; ixgbevf mbx.c).
 *
 * VF to PF: the VF takes the buffer (VFU, granted unless the PF has it), writes the words, sets REQ. The PF reads at
 * once and answers PFACK. PF to VF: the PF takes the buffer, writes, sets PFSTS and lets go; the VF reads and sets
 * ACK. REQ and ACK read as zero; PFSTS, PFACK and RSTD are cleared by reading VFMAILBOX, which is why the driver
 * keeps its own copy of them (ixgbevf_read_mailbox_vf).
 *
 * The two handshakes of ixgbevf both work. Until API 1.4 it drops VFU in the same write that sets REQ, so the reply
 * is there when that write returns. From API 1.5 it holds VFU until it has seen PFACK; the PF reads the request
 * regardless, and the reply waits until VFU falls. The PF is so quick that PFU is never seen set.
 *
 * A message of the PF's own accord never overwrites a reply that the VF has not acknowledged: it waits for the ACK,
 * or for the next request. Hardware has that race; here a link change cannot spoil a request.
 */
export class Mailbox {
  readonly #registers: Uint32Array;
  readonly #peer: MailboxPeer;
  readonly #raise: () => void;
  readonly #reply = new Uint32Array(VFMBMEM_WORDS);
  readonly #control = new Uint32Array(VFMBMEM_WORDS);
  #replyWords = 0;
  #controlWords = 0;
  #replyUnread = false;

  /** `raise` sets the mailbox's interrupt cause; the PF's acknowledgement and its messages both do. */
  constructor(parts: { registers: Uint32Array; peer: MailboxPeer; raise: () => void }) {
    this.#registers = parts.registers;
    this.#peer = parts.peer;
    this.#raise = parts.raise;
  }

  /** The guest wrote VFMAILBOX. */
  controlWritten(written: number): void {
    const held = this.#get();
    this.#set((written & VFMAILBOX_VFU) === 0 ? held & ~VFMAILBOX_VFU : held | VFMAILBOX_VFU);
    if ((written & VFMAILBOX_ACK) !== 0) {
      this.#replyUnread = false;
      this.#peer.acknowledged();
    }
    if ((written & VFMAILBOX_REQ) !== 0) {
      this.#replyUnread = false;
      this.#peer.requested();
    }
    this.#flush();
  }

  /** PF: copies the VF's message and acknowledges it. */
  take(into: Uint32Array): void {
    for (let word = 0; word < VFMBMEM_WORDS; word++) into[word] = this.#registers[VFMBMEM(word) >>> 2] as number;
    this.#set(this.#get() | VFMAILBOX_PFACK);
    this.#raise();
  }

  /** PF: answers a request with the first `words` words. A reply that still waits is replaced. */
  reply(message: Uint32Array, words: number): void {
    this.#reply.set(message.subarray(0, words));
    this.#replyWords = words;
    this.#flush();
  }

  /** PF: sends a message of its own accord; one that still waits is replaced. */
  post(message: Uint32Array, words: number): void {
    this.#control.set(message.subarray(0, words));
    this.#controlWords = words;
    this.#flush();
  }

  /** PF: clears the buffer, as it does when the VF resets. */
  clearMemory(): void {
    for (let word = 0; word < VFMBMEM_WORDS; word++) this.#registers[VFMBMEM(word) >>> 2] = 0;
  }

  /** PF: it has reset and is back; whatever waited is dropped. The driver's check_for_rst reads RSTD once. */
  announceReset(): void {
    this.reset();
    this.#set(this.#get() | VFMAILBOX_RSTD);
  }

  /** The function was reset; VFMAILBOX has been cleared by the register file. */
  reset(): void {
    this.#replyWords = 0;
    this.#controlWords = 0;
    this.#replyUnread = false;
  }

  save(): MailboxState {
    return {
      waitingReply: [...this.#reply.subarray(0, this.#replyWords)],
      waitingControl: [...this.#control.subarray(0, this.#controlWords)],
      replyUnread: this.#replyUnread,
    };
  }

  restore(state: MailboxState): void {
    this.#replyWords = Math.min(state.waitingReply.length, VFMBMEM_WORDS);
    this.#reply.set(state.waitingReply.slice(0, VFMBMEM_WORDS));
    this.#controlWords = Math.min(state.waitingControl.length, VFMBMEM_WORDS);
    this.#control.set(state.waitingControl.slice(0, VFMBMEM_WORDS));
    this.#replyUnread = state.replyUnread;
  }

  #get(): number {
    return this.#registers[VFMAILBOX >>> 2] as number;
  }

  #set(value: number): void {
    this.#registers[VFMAILBOX >>> 2] = value;
  }

  /** Delivers what waits, as far as the buffer is free: the reply first. */
  #flush(): void {
    if ((this.#get() & VFMAILBOX_VFU) !== 0) return;
    if (this.#replyWords !== 0) {
      this.#deliver(this.#reply, this.#replyWords);
      this.#replyWords = 0;
      this.#replyUnread = true;
    } else if (this.#controlWords !== 0 && !this.#replyUnread) {
      this.#deliver(this.#control, this.#controlWords);
      this.#controlWords = 0;
    }
  }

  #deliver(message: Uint32Array, words: number): void {
    for (let word = 0; word < words; word++) this.#registers[VFMBMEM(word) >>> 2] = message[word] as number;
    this.#set(this.#get() | VFMAILBOX_PFSTS);
    this.#raise();
  }
}
