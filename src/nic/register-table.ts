// One table of the VF's registers: reset value, write mask and behaviour of each. The register file is built from
// it, and so is its test.
//
// Source: Intel 82599 datasheet, section 8.3 (VF registers), and what ixgbevf relies on. Two rows differ from a plain
// reading: the heads are read-only (the driver writes zero to them after a reset, when they are zero anyway), and the
// RSS block belongs to the PF, as on an 82599, so the guest can only read it.
import {
  DCA_RXCTRL_DATA_WRO_EN,
  DCA_RXCTRL_DESC_RRO_EN,
  DCA_RXCTRL_HEAD_WRO_EN,
  DCA_TXCTRL_DATA_RRO_EN,
  DCA_TXCTRL_DESC_RRO_EN,
  DCA_TXCTRL_DESC_WRO_EN,
  QUEUE_PAIRS_MAX,
  RSCCTL_MAXDESC_MASK,
  RSCCTL_RSCEN,
  RXDCTL_ENABLE,
  RXDCTL_VME,
  SRRCTL_BSIZEHDR_MASK,
  SRRCTL_BSIZEPKT_MASK,
  SRRCTL_DESCTYPE_MASK,
  SRRCTL_DROP_EN,
  SRRCTL_RDMTS_MASK,
  TXDCTL_ENABLE,
  TXDCTL_HTHRESH_MASK,
  TXDCTL_PTHRESH_MASK,
  TXDCTL_SWFLSH,
  TXDCTL_WTHRESH_MASK,
  VECTORS_MAX,
  VFCTRL,
  VFCTRL_RST,
  VFDCA_RXCTRL,
  VFDCA_TXCTRL,
  VFFRTIMER,
  VFGORC_LSB,
  VFGORC_MSB,
  VFGOTC_LSB,
  VFGOTC_MSB,
  VFGPRC,
  VFGPTC,
  VFLINKS,
  VFMAILBOX,
  VFMAILBOX_READ_TO_CLEAR,
  VFMAILBOX_VFU,
  VFMBMEM,
  VFMBMEM_WORDS,
  VFMPRC,
  VFMRQC,
  VFPSRTYPE,
  VFRDBAH,
  VFRDBAL,
  VFRDH,
  VFRDLEN,
  VFRDT,
  VFRETA,
  VFRETA_WORDS,
  VFRSCCTL,
  VFRSSRK,
  VFRSSRK_WORDS,
  VFRXDCTL,
  VFRXMEMWRAP,
  VFSRRCTL,
  VFSTATUS,
  VFTDBAH,
  VFTDBAL,
  VFTDH,
  VFTDLEN,
  VFTDT,
  VFTDWBAH,
  VFTDWBAL,
  VFTXDCTL,
  VTEIAC,
  VTEIAM,
  VTEICR,
  VTEICS,
  VTEIMC,
  VTEIMS,
  VTEITR,
  VTEITR_INTERVAL_MASK,
  VTEI_CAUSES,
  VTIVAR,
  VTIVAR_MISC,
  VTRSCINT,
} from "./registers.ts";

/**
 * How a register answers.
 * - `plain`: a write replaces the bits of the write mask.
 * - `read-only`: a write changes nothing; the device sets it.
 * - `read-to-clear`: a read clears the bits of `clearOnRead`; a write of ones clears them too if they are in the write mask.
 * - `write-one-to-set`: ones set bits, zeros leave them.
 * - `write-one-to-clear`: ones clear bits of the register named by `target`; reads as zero.
 * - `trigger`: ones start something; reads as zero.
 */
export type RegisterKind =
  | "plain"
  | "read-only"
  | "read-to-clear"
  | "write-one-to-set"
  | "write-one-to-clear"
  | "trigger";

/** What the device does besides storing. The numbers index small arrays on the hot path. */
export const RegisterEffect = {
  none: 0,
  control: 1,
  timer: 2,
  causes: 3,
  causeSet: 4,
  interruptMask: 5,
  throttle: 6,
  mailbox: 7,
  receiveQueue: 8,
  receiveTail: 9,
  transmitQueue: 10,
  transmitTail: 11,
  transmitControl: 12,
} as const;
export type RegisterEffect = (typeof RegisterEffect)[keyof typeof RegisterEffect];

export interface RegisterRow {
  readonly name: string;
  readonly offset: number;
  readonly count: number;
  readonly strideBytes: number;
  readonly kind: RegisterKind;
  readonly resetValue: number;
  readonly writeMask: number;
  /** Bits of the write mask that act and read back as zero. */
  readonly selfClearing: number;
  /** Bits that a read clears. */
  readonly clearOnRead: number;
  /** For write-one-to-clear: the offset of the register whose bits it clears. */
  readonly target: number;
  readonly effect: RegisterEffect;
  /** Neither FLR nor VFCTRL.RST touches it: it belongs to the PF or the port, or is the known gap (VFTDWBAL/H). */
  readonly keptOverReset: boolean;
}

type Extra = Partial<Omit<RegisterRow, "name" | "offset" | "kind">>;

function row(name: string, offset: number, kind: RegisterKind, extra: Extra = {}): RegisterRow {
  return {
    name,
    offset,
    kind,
    count: 1,
    strideBytes: 4,
    resetValue: 0,
    writeMask: 0,
    selfClearing: 0,
    clearOnRead: 0,
    target: offset,
    effect: RegisterEffect.none,
    keptOverReset: false,
    ...extra,
  };
}

const kept: Extra = { keptOverReset: true };
const perVector: Extra = { count: VECTORS_MAX };
const perQueue: Extra = { count: QUEUE_PAIRS_MAX, strideBytes: 0x40 };

const generalRows: readonly RegisterRow[] = [
  row("VFCTRL", VFCTRL, "trigger", { writeMask: VFCTRL_RST, effect: RegisterEffect.control }),
  row("VFSTATUS", VFSTATUS, "read-only"),
  row("VFLINKS", VFLINKS, "read-only", kept),
  row("VFFRTIMER", VFFRTIMER, "read-only", { ...kept, effect: RegisterEffect.timer }),
  row("VFRXMEMWRAP", VFRXMEMWRAP, "read-only", kept),
];

const interruptRows: readonly RegisterRow[] = [
  row("VTEICR", VTEICR, "read-to-clear", {
    writeMask: VTEI_CAUSES,
    clearOnRead: VTEI_CAUSES,
    effect: RegisterEffect.causes,
  }),
  row("VTEICS", VTEICS, "trigger", { writeMask: VTEI_CAUSES, effect: RegisterEffect.causeSet }),
  row("VTEIMS", VTEIMS, "write-one-to-set", { writeMask: VTEI_CAUSES, effect: RegisterEffect.interruptMask }),
  row("VTEIMC", VTEIMC, "write-one-to-clear", {
    writeMask: VTEI_CAUSES,
    target: VTEIMS,
    effect: RegisterEffect.interruptMask,
  }),
  row("VTEIAC", VTEIAC, "plain", { writeMask: VTEI_CAUSES }),
  row("VTEIAM", VTEIAM, "plain", { writeMask: VTEI_CAUSES }),
  row("VTIVAR", VTIVAR(0), "plain", { count: QUEUE_PAIRS_MAX / 2, writeMask: 0x8383_8383 }),
  row("VTIVAR_MISC", VTIVAR_MISC, "plain", { writeMask: 0x83 }),
  row("VTRSCINT", VTRSCINT(0), "plain", { ...perVector, writeMask: 0x77 }),
  row("VTEITR", VTEITR(0), "plain", {
    ...perVector,
    writeMask: VTEITR_INTERVAL_MASK,
    effect: RegisterEffect.throttle,
  }),
];

const mailboxRows: readonly RegisterRow[] = [
  row("VFMBMEM", VFMBMEM(0), "plain", { ...kept, count: VFMBMEM_WORDS, writeMask: 0xffff_ffff }),
  // REQ, ACK and VFU are the mailbox's to handle; the file only clears what a read clears.
  row("VFMAILBOX", VFMAILBOX, "read-to-clear", {
    writeMask: VFMAILBOX_VFU,
    clearOnRead: VFMAILBOX_READ_TO_CLEAR,
    effect: RegisterEffect.mailbox,
  }),
];

const receiveQueue: Extra = { ...perQueue, effect: RegisterEffect.receiveQueue };
const receiveRows: readonly RegisterRow[] = [
  row("VFPSRTYPE", VFPSRTYPE, "plain", { writeMask: 0xe000_1330 }),
  row("VFRDBAL", VFRDBAL(0), "plain", { ...receiveQueue, writeMask: 0xffff_ff80 }),
  row("VFRDBAH", VFRDBAH(0), "plain", { ...receiveQueue, writeMask: 0xffff_ffff }),
  row("VFRDLEN", VFRDLEN(0), "plain", { ...receiveQueue, writeMask: 0x000f_ff80 }),
  row("VFDCA_RXCTRL", VFDCA_RXCTRL(0), "plain", {
    ...receiveQueue,
    resetValue: DCA_RXCTRL_DESC_RRO_EN | DCA_RXCTRL_DATA_WRO_EN | DCA_RXCTRL_HEAD_WRO_EN,
    writeMask: 0xff00_aae0,
  }),
  row("VFRDH", VFRDH(0), "read-only", perQueue),
  row("VFSRRCTL", VFSRRCTL(0), "plain", {
    ...receiveQueue,
    // 2 KiB for the packet, 256 bytes for the header.
    resetValue: 0x0402,
    writeMask: SRRCTL_BSIZEPKT_MASK | SRRCTL_BSIZEHDR_MASK | SRRCTL_RDMTS_MASK | SRRCTL_DESCTYPE_MASK | SRRCTL_DROP_EN,
  }),
  row("VFRDT", VFRDT(0), "plain", { ...perQueue, writeMask: 0xffff, effect: RegisterEffect.receiveTail }),
  row("VFRXDCTL", VFRXDCTL(0), "plain", { ...receiveQueue, writeMask: (RXDCTL_ENABLE | RXDCTL_VME) >>> 0 }),
  row("VFRSCCTL", VFRSCCTL(0), "plain", { ...receiveQueue, writeMask: RSCCTL_RSCEN | RSCCTL_MAXDESC_MASK }),
];

const transmitQueue: Extra = { ...perQueue, effect: RegisterEffect.transmitQueue };
const transmitRows: readonly RegisterRow[] = [
  row("VFTDBAL", VFTDBAL(0), "plain", { ...transmitQueue, writeMask: 0xffff_ff80 }),
  row("VFTDBAH", VFTDBAH(0), "plain", { ...transmitQueue, writeMask: 0xffff_ffff }),
  row("VFTDLEN", VFTDLEN(0), "plain", { ...transmitQueue, writeMask: 0x000f_ff80 }),
  row("VFDCA_TXCTRL", VFDCA_TXCTRL(0), "plain", {
    ...transmitQueue,
    resetValue: DCA_TXCTRL_DESC_RRO_EN | DCA_TXCTRL_DESC_WRO_EN | DCA_TXCTRL_DATA_RRO_EN,
    writeMask: 0xff00_2a20,
  }),
  row("VFTDH", VFTDH(0), "read-only", perQueue),
  row("VFTDT", VFTDT(0), "plain", { ...perQueue, writeMask: 0xffff, effect: RegisterEffect.transmitTail }),
  row("VFTXDCTL", VFTXDCTL(0), "plain", {
    ...transmitQueue,
    writeMask: TXDCTL_PTHRESH_MASK | TXDCTL_HTHRESH_MASK | TXDCTL_WTHRESH_MASK | TXDCTL_ENABLE | TXDCTL_SWFLSH,
    selfClearing: TXDCTL_SWFLSH,
    effect: RegisterEffect.transmitControl,
  }),
  // Kept over FLR: hazard `stale-head-writeback`. The PF zeroes them when it answers the driver's RESET message.
  row("VFTDWBAL", VFTDWBAL(0), "plain", { ...transmitQueue, ...kept, writeMask: 0xffff_fffd }),
  row("VFTDWBAH", VFTDWBAH(0), "plain", { ...transmitQueue, ...kept, writeMask: 0xffff_ffff }),
];

/** Only a power-on clears the counters, which is why the driver keeps bases (ixgbevf_init_last_counter_stats). */
const counterRows: readonly RegisterRow[] = [
  row("VFGPRC", VFGPRC, "read-only", kept),
  row("VFGORC_LSB", VFGORC_LSB, "read-only", kept),
  row("VFGORC_MSB", VFGORC_MSB, "read-only", kept),
  row("VFMPRC", VFMPRC, "read-only", kept),
  row("VFGPTC", VFGPTC, "read-only", kept),
  row("VFGOTC_LSB", VFGOTC_LSB, "read-only", kept),
  row("VFGOTC_MSB", VFGOTC_MSB, "read-only", kept),
];

const rssRows: readonly RegisterRow[] = [
  row("VFMRQC", VFMRQC, "read-only", kept),
  row("VFRSSRK", VFRSSRK(0), "read-only", { ...kept, count: VFRSSRK_WORDS }),
  row("VFRETA", VFRETA(0), "read-only", { ...kept, count: VFRETA_WORDS }),
];

export const registerTable: readonly RegisterRow[] = [
  ...generalRows,
  ...interruptRows,
  ...mailboxRows,
  ...receiveRows,
  ...transmitRows,
  ...counterRows,
  ...rssRows,
];
