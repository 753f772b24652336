// Sizes of Ethernet frames as the 82599 bounds them, in bytes and without the FCS unless the name says so.

export const ETHERNET_HEADER_BYTES = 14;
export const ETHERNET_ADDRESSES_BYTES = 12;
export const VLAN_TAG_BYTES = 4;
export const FCS_BYTES = 4;
/** Shorter frames are padded with zeros to this. */
export const FRAME_BYTES_MIN = 60;
/** Largest frame of the device with its FCS (IXGBE_MAX_JUMBO_FRAME_SIZE). */
export const FRAME_BYTES_MAX_WITH_FCS = 9728;
/** What a VF may receive before it asks its PF for more (SET_LPE), with FCS. */
export const FRAME_BYTES_DEFAULT_WITH_FCS = 1518;
