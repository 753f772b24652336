// The VF's registers by their datasheet names: byte offsets into BAR0 and the masks of their fields.
//
// Source: Intel 82599 datasheet, section 8.3 (device registers, VF), and Linux ixgbevf regs.h and defines.h.
// All registers are 32 bits wide. The register file is a Uint32Array indexed by `offset >>> 2`.

/** Size of BAR0 in bytes, and of the register file in registers. */
export const REGISTER_BAR_BYTES = 0x4000;
export const REGISTER_COUNT = REGISTER_BAR_BYTES >>> 2;

/** Queue pairs that the register map has room for (IXGBE_VF_MAX_RX_QUEUES). */
export const QUEUE_PAIRS_MAX = 8;
/** MSI-X vectors, interrupt causes and throttles of one VF. */
export const VECTORS_MAX = 3;

// General.
export const VFCTRL = 0x0000;
export const VFCTRL_RST = 0x0400_0000;
export const VFSTATUS = 0x0008;
export const VFLINKS = 0x0010;
export const VFLINKS_UP = 0x4000_0000;
export const VFLINKS_SPEED_MASK = 0x3000_0000;
export const VFLINKS_SPEED_10G = 0x3000_0000;
export const VFLINKS_SPEED_1G = 0x2000_0000;
export const VFLINKS_SPEED_100M = 0x1000_0000;
/** Free-running timer, one tick a microsecond. */
export const VFFRTIMER = 0x0048;
export const VFRXMEMWRAP = 0x3190;

// Interrupts.
export const VTEICR = 0x0100;
export const VTEICS = 0x0104;
export const VTEIMS = 0x0108;
export const VTEIMC = 0x010c;
export const VTEIAC = 0x0110;
export const VTEIAM = 0x0114;
/** The implemented cause bits of the six registers above, one for each vector. */
export const VTEI_CAUSES = 0x7;
/** Two queues share one register: Rx 2n in byte 0, Tx 2n in byte 1, Rx 2n+1 in byte 2, Tx 2n+1 in byte 3. */
export const VTIVAR = (n: number): number => 0x0120 + 4 * n;
export const VTIVAR_MISC = 0x0140;
export const VTIVAR_VALID = 0x80;
export const VTIVAR_VECTOR_MASK = 0x03;
export const VTRSCINT = (vector: number): number => 0x0180 + 4 * vector;
export const VTEITR = (vector: number): number => 0x0820 + 4 * vector;
/** Bits 11:3 hold the interval in units of 2 us, so the masked value read as a number is quarters of a microsecond. */
export const VTEITR_INTERVAL_MASK = 0x0ff8;
/** Write disable of the counter fields: the write changes the interval only. */
export const VTEITR_CNT_WDIS = 0x8000_0000;

// Mailbox.
export const VFMBMEM = (word: number): number => 0x0200 + 4 * word;
export const VFMBMEM_WORDS = 16;
export const VFMAILBOX = 0x02fc;
export const VFMAILBOX_REQ = 0x01;
export const VFMAILBOX_ACK = 0x02;
export const VFMAILBOX_VFU = 0x04;
export const VFMAILBOX_PFSTS = 0x10;
export const VFMAILBOX_PFACK = 0x20;
export const VFMAILBOX_RSTI = 0x40;
export const VFMAILBOX_RSTD = 0x80;
export const VFMAILBOX_READ_TO_CLEAR = 0xb0;

// Receive. Queue q adds 0x40 * q.
export const VFPSRTYPE = 0x0300;
export const VFRDBAL = (queue: number): number => 0x1000 + 0x40 * queue;
export const VFRDBAH = (queue: number): number => 0x1004 + 0x40 * queue;
/** Ring length in bytes; the hardware ignores the low 7 bits (8 descriptors). */
export const VFRDLEN = (queue: number): number => 0x1008 + 0x40 * queue;
export const VFDCA_RXCTRL = (queue: number): number => 0x100c + 0x40 * queue;
export const DCA_RXCTRL_DESC_RRO_EN = 0x0000_0200;
export const DCA_RXCTRL_DESC_WRO_EN = 0x0000_0800;
export const DCA_RXCTRL_DATA_WRO_EN = 0x0000_2000;
export const DCA_RXCTRL_HEAD_WRO_EN = 0x0000_8000;
export const VFRDH = (queue: number): number => 0x1010 + 0x40 * queue;
export const VFSRRCTL = (queue: number): number => 0x1014 + 0x40 * queue;
/** Packet buffer size in KiB. */
export const SRRCTL_BSIZEPKT_MASK = 0x0000_001f;
export const SRRCTL_BSIZEPKT_UNIT_BYTES = 1024;
/** Header buffer size in units of 64 bytes. */
export const SRRCTL_BSIZEHDR_MASK = 0x0000_3f00;
export const SRRCTL_RDMTS_MASK = 0x01c0_0000;
export const SRRCTL_DESCTYPE_MASK = 0x0e00_0000;
export const SRRCTL_DESCTYPE_ADV_ONEBUF = 0x0200_0000;
export const SRRCTL_DROP_EN = 0x1000_0000;
export const VFRDT = (queue: number): number => 0x1018 + 0x40 * queue;
export const VFRXDCTL = (queue: number): number => 0x1028 + 0x40 * queue;
export const RXDCTL_ENABLE = 0x0200_0000;
export const RXDCTL_VME = 0x4000_0000;
export const VFRSCCTL = (queue: number): number => 0x102c + 0x40 * queue;
export const RSCCTL_RSCEN = 0x0000_0001;
export const RSCCTL_MAXDESC_MASK = 0x0000_000c;

// Transmit. Queue q adds 0x40 * q.
export const VFTDBAL = (queue: number): number => 0x2000 + 0x40 * queue;
export const VFTDBAH = (queue: number): number => 0x2004 + 0x40 * queue;
export const VFTDLEN = (queue: number): number => 0x2008 + 0x40 * queue;
export const VFDCA_TXCTRL = (queue: number): number => 0x200c + 0x40 * queue;
export const DCA_TXCTRL_DESC_RRO_EN = 0x0000_0200;
export const DCA_TXCTRL_DESC_WRO_EN = 0x0000_0800;
export const DCA_TXCTRL_DATA_RRO_EN = 0x0000_2000;
export const VFTDH = (queue: number): number => 0x2010 + 0x40 * queue;
export const VFTDT = (queue: number): number => 0x2018 + 0x40 * queue;
export const VFTXDCTL = (queue: number): number => 0x2028 + 0x40 * queue;
export const TXDCTL_PTHRESH_MASK = 0x0000_007f;
export const TXDCTL_HTHRESH_MASK = 0x0000_7f00;
export const TXDCTL_WTHRESH_MASK = 0x007f_0000;
export const TXDCTL_WTHRESH_SHIFT = 16;
export const TXDCTL_ENABLE = 0x0200_0000;
/** Writing 1 flushes the write-backs that wait for WTHRESH; clears itself. */
export const TXDCTL_SWFLSH = 0x0400_0000;
/** Head write-back address; bit 0 of the low half enables it. */
export const VFTDWBAL = (queue: number): number => 0x2038 + 0x40 * queue;
export const VFTDWBAH = (queue: number): number => 0x203c + 0x40 * queue;
export const TDWBAL_HEAD_WB_ENABLE = 0x0000_0001;

// Counters: one of each for the VF. They wrap (32 bits, octets 36 bits in two registers) and only a power-on clears
// them, which is why the driver keeps bases.
export const VFGPRC = 0x101c;
export const VFGORC_LSB = 0x1020;
export const VFGORC_MSB = 0x1024;
export const VFMPRC = 0x1034;
export const VFGPTC = 0x201c;
export const VFGOTC_LSB = 0x2020;
export const VFGOTC_MSB = 0x2024;
/** The upper half of an octet counter has four bits. */
export const OCTETS_MSB_MASK = 0x0000_000f;

// RSS. An 82599 keeps these in the PF (shared by its VFs); they sit where the X550's VF has them, and here the PF
// fills them in, so that the guest need not.
export const VFMRQC = 0x3000;
export const VFMRQC_RSSEN = 0x0000_0001;
export const VFMRQC_RSS_FIELD_IPV4_TCP = 0x0001_0000;
export const VFMRQC_RSS_FIELD_IPV4 = 0x0002_0000;
export const VFMRQC_RSS_FIELD_IPV6 = 0x0010_0000;
export const VFMRQC_RSS_FIELD_IPV6_TCP = 0x0020_0000;
export const VFRSSRK = (word: number): number => 0x3100 + 4 * word;
export const VFRSSRK_WORDS = 10;
/** Four 8-bit entries to a register, the first in the lowest byte; the low 3 bits of an entry name a queue. */
export const VFRETA = (word: number): number => 0x3200 + 4 * word;
export const VFRETA_WORDS = 16;
