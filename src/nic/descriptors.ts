// Descriptors of the 82599, 16 bytes of little-endian words: the layouts and bits that the device reads and writes.
//
// Source: Intel 82599 datasheet, sections 7.1.6 (advanced receive descriptors) and 7.2.3 (advanced transmit
// descriptors); names as in Linux ixgbevf defines.h.

export const DESCRIPTOR_BYTES = 16;
export const DESCRIPTOR_WORDS = 4;

// Receive, as posted: words 0 and 1 are pkt_addr, words 2 and 3 hdr_addr (unused with one buffer).
// Receive, written back over it: word 0 pkt_info | hdr_info << 16, word 1 RSS hash, word 2 status and errors,
// word 3 length | vlan << 16. The write-back destroys pkt_addr.
export const RXD_STAT_DD = 0x01;
export const RXD_STAT_EOP = 0x02;
export const RXD_STAT_VP = 0x08;
export const RXD_STAT_UDPCS = 0x10;
export const RXD_STAT_L4CS = 0x20;
export const RXD_STAT_IPCS = 0x40;
export const RXD_ERR_CE = 0x0100_0000;
export const RXD_ERR_TCPE = 0x4000_0000;
export const RXD_ERR_IPE = 0x8000_0000;

/** RSS types in pkt_info bits 3:0. */
export const RssType = {
  none: 0,
  ipv4Tcp: 1,
  ipv4: 2,
  ipv6Tcp: 3,
  ipv6: 5,
  ipv4Udp: 7,
  ipv6Udp: 8,
} as const;
export type RssType = (typeof RssType)[keyof typeof RssType];

/** Packet type bits in pkt_info bits 15:4. */
export const PKTTYPE_IPV4 = 0x0010;
export const PKTTYPE_IPV4_OPTIONS = 0x0020;
export const PKTTYPE_IPV6 = 0x0040;
export const PKTTYPE_IPV6_EXTENSIONS = 0x0080;
export const PKTTYPE_TCP = 0x0100;
export const PKTTYPE_UDP = 0x0200;
export const PKTTYPE_SCTP = 0x0400;

// Transmit data: words 0 and 1 buffer address, word 2 cmd_type_len, word 3 olinfo_status.
// Transmit, written back: words 0 and 1 reserved, word 2 nxtseq_seed, word 3 status (DD).
export const TXD_LENGTH_MASK = 0x0000_ffff;
export const TXD_DTYP_MASK = 0x00f0_0000;
export const TXD_DTYP_CONTEXT = 0x0020_0000;
export const TXD_DTYP_DATA = 0x0030_0000;
export const TXD_CMD_EOP = 0x0100_0000;
export const TXD_CMD_RS = 0x0800_0000;
export const TXD_CMD_DEXT = 0x2000_0000;
export const TXD_CMD_VLE = 0x4000_0000;
export const TXD_CMD_TSE = 0x8000_0000;
export const TXD_STAT_DD = 0x0000_0001;
export const TXD_POPTS_IXSM = 0x0000_0100;
export const TXD_POPTS_TXSM = 0x0000_0200;
export const TXD_IDX_SHIFT = 4;
/** The device has two context slots a queue; of the three index bits only the lowest can matter. */
export const TXD_IDX_MASK = 0x1;
export const TXD_PAYLEN_SHIFT = 14;

// Transmit context: word 0 vlan_macip_lens, word 1 fceof_saidx, word 2 type_tucmd_mlhl, word 3 mss_l4len_idx.
export const TXC_IPLEN_MASK = 0x0000_01ff;
export const TXC_MACLEN_SHIFT = 9;
export const TXC_MACLEN_MASK = 0x7f;
export const TXC_VLAN_SHIFT = 16;
export const TXC_TUCMD_IPV4 = 0x0000_0400;
export const TXC_L4T_MASK = 0x0000_1800;
export const TXC_L4T_UDP = 0x0000_0000;
export const TXC_L4T_TCP = 0x0000_0800;
export const TXC_L4T_SCTP = 0x0000_1000;
export const TXC_L4LEN_SHIFT = 8;
export const TXC_L4LEN_MASK = 0xff;
export const TXC_MSS_SHIFT = 16;
