// The words of the mailbox: message types, flags and API versions between a VF and its PF.
//
// Source: Linux ixgbevf mbx.h and vf.c, ixgbe ixgbe_mbx.h and ixgbe_sriov.c.

/** Flags of word 0. A reply carries the request's type, one of ACK and NACK, and CTS once the VF has reset. */
export const MESSAGE_ACK = 0x8000_0000;
export const MESSAGE_NACK = 0x4000_0000;
/** Clear to send: the PF knows the VF and takes requests. */
export const MESSAGE_CTS = 0x2000_0000;
export const MESSAGE_TYPE_MASK = 0xffff;
export const MESSAGE_INFO_SHIFT = 16;
export const MESSAGE_INFO_MASK = 0xff;

export const MessageType = {
  reset: 0x01,
  setMac: 0x02,
  setMulticast: 0x03,
  setVlan: 0x04,
  setMaximumFrame: 0x05,
  setMacVlan: 0x06,
  negotiateApi: 0x08,
  getQueues: 0x09,
  getRssTable: 0x0a,
  getRssKey: 0x0b,
  updateCastMode: 0x0c,
  ipsecAdd: 0x0d,
  ipsecDelete: 0x0e,
  getLinkState: 0x10,
  getPfLinkState: 0x11,
  negotiateFeatures: 0x12,
} as const;
export type MessageType = (typeof MessageType)[keyof typeof MessageType];

/** A message of the PF's own accord: a ping, a link change, or a withdrawn CTS. */
export const PF_CONTROL_MESSAGE = 0x0100;

/**
 * API versions as they stand on the wire: in the order of the C enum, so 2.0 (Solaris) comes second. No Linux PF
 * agrees to 2.0, which leaves the others in ascending order.
 */
export const MailboxApi = { v10: 0, v20: 1, v11: 2, v12: 3, v13: 4, v14: 5, v15: 6, v16: 7, v17: 8 } as const;
export type MailboxApi = (typeof MailboxApi)[keyof typeof MailboxApi];

/** Which frames a VF asks for beyond its own addresses (enum ixgbevf_xcast_modes). */
export const CastMode = { none: 0, multicast: 1, allMulticast: 2, promiscuous: 3 } as const;
export type CastMode = (typeof CastMode)[keyof typeof CastMode];

/** Features of API 1.7: the strict handshake that API 1.5 stands for, and IPsec offload, which this PF has not. */
export const FEATURE_STRICT_MAILBOX = 0x2;

/** Link speeds of GET_PF_LINK_STATE (ixgbe_link_speed). */
export const PF_LINK_SPEED_10G = 0x80;
export const PF_LINK_SPEED_1G = 0x20;
export const PF_LINK_SPEED_100M = 0x08;
