// What the PF answers to a VF's requests: one handler for each message type, true for ACK.
import {
  CastMode,
  FEATURE_STRICT_MAILBOX,
  MailboxApi,
  MESSAGE_INFO_MASK,
  MESSAGE_INFO_SHIFT,
  MESSAGE_TYPE_MASK,
  MessageType,
  PF_LINK_SPEED_100M,
  PF_LINK_SPEED_10G,
  PF_LINK_SPEED_1G,
} from "./mailbox-messages.ts";
import { isStation, MAC_BYTES } from "./mac-address.ts";
import {
  VFLINKS,
  VFLINKS_SPEED_10G,
  VFLINKS_SPEED_1G,
  VFLINKS_SPEED_MASK,
  VFLINKS_UP,
  VFRETA,
  VFRETA_WORDS,
  VFRSSRK,
  VFRSSRK_WORDS,
} from "./registers.ts";
import type { SwitchFilter } from "./switch-filter.ts";

/** Frame sizes with FCS: the least and most SET_LPE may ask for (ETH_MIN_MTU, IXGBE_MAX_JUMBO_FRAME_SIZE). */
export const FRAME_LIMIT_BYTES_MIN = 68;
export const FRAME_LIMIT_BYTES_MAX = 9728;
/** The limit until a VF asks for more, and all that a VF of API 1.0 gets. */
export const FRAME_LIMIT_BYTES_DEFAULT = 1518;

const MULTICAST_HASHES_MAX = 30;

/** What the PF keeps of a VF and its requests change. */
export interface VfRecord {
  readonly filter: SwitchFilter;
  readonly registers: Uint32Array;
  readonly queuePairs: number;
  readonly apiMax: MailboxApi;
  /** A trusted VF may change an assigned MAC address, add MACVLANs and ask for all multicast. */
  readonly trusted: boolean;
  api: MailboxApi;
  mac: Uint8Array;
  /** The host chose the address. */
  macAssigned: boolean;
  frameLimitBytes: number;
  receiveEnabled: boolean;
}

/**
 * Carries out the request in `message` and writes the answer's words over it (word 0 is the caller's). Follows
 * ixgbe_rcv_msg_from_vf of Linux 6.1; the messages of API 1.5 to 1.7 follow what ixgbevf asks.
 */
export function answerRequest(vf: VfRecord, message: Uint32Array): boolean {
  const type = word(message, 0) & MESSAGE_TYPE_MASK;
  const info = (word(message, 0) >>> MESSAGE_INFO_SHIFT) & MESSAGE_INFO_MASK;
  switch (type as MessageType) {
    case MessageType.setMac:
      return setMac(vf, message);
    case MessageType.setMulticast:
      return setMulticast(vf, message, info);
    case MessageType.setVlan:
      return setVlan(vf, word(message, 1) & 0xfff, info !== 0);
    case MessageType.setMaximumFrame:
      return setMaximumFrame(vf, word(message, 1));
    case MessageType.setMacVlan:
      return setMacVlan(vf, message, info);
    case MessageType.negotiateApi:
      return negotiateApi(vf, word(message, 1));
    case MessageType.getQueues:
      return getQueues(vf, message);
    case MessageType.getRssTable:
      return getRssTable(vf, message);
    case MessageType.getRssKey:
      return getRssKey(vf, message);
    case MessageType.updateCastMode:
      return updateCastMode(vf, message);
    case MessageType.getLinkState:
      // The administrative state; whether there is a link is in VFLINKS.
      if (vf.api < MailboxApi.v12) return false;
      message[1] = 1;
      return true;
    case MessageType.getPfLinkState:
      return getPfLinkState(vf, message);
    case MessageType.negotiateFeatures:
      if (vf.api < MailboxApi.v17) return false;
      message[1] = word(message, 1) & FEATURE_STRICT_MAILBOX;
      return true;
    case MessageType.ipsecAdd:
    case MessageType.ipsecDelete:
    // RESET with anything but zero in its other bits is no reset (ixgbe compares the whole word).
    case MessageType.reset:
      return false;
    default:
      return false;
  }
}

function setMac(vf: VfRecord, message: Uint32Array): boolean {
  const mac = macOf(message);
  if (!isStation(mac)) return false;
  const isSame = mac.every((byte, i) => byte === vf.mac[i]);
  if (vf.macAssigned && !vf.trusted && !isSame) return false;
  vf.mac = mac;
  vf.filter.setAddress(mac);
  return true;
}

/** Hashes are packed two to a word. The driver leaves garbage behind those it counted but skipped. */
function setMulticast(vf: VfRecord, message: Uint32Array, count: number): boolean {
  const hashes = Array.from(
    { length: Math.min(count, MULTICAST_HASHES_MAX) },
    (_, i) => (word(message, 1 + (i >>> 1)) >>> (16 * (i & 1))) & 0xffff,
  );
  vf.filter.setHashes(hashes);
  if (vf.filter.castMode === CastMode.none) vf.filter.castMode = CastMode.multicast;
  return true;
}

/** VLAN 0 cannot be removed; asking for it is granted and changes nothing. */
function setVlan(vf: VfRecord, id: number, add: boolean): boolean {
  if (add) return vf.filter.addVlan(id);
  if (id !== 0) vf.filter.removeVlan(id);
  return true;
}

/**
 * The limit only grows: MAXFRS belongs to the port (ixgbe_set_vf_lpe). A VF of API 1.0 cannot take jumbo frames and
 * has its receive path shut when it asks for them, until it asks for less or resets.
 */
function setMaximumFrame(vf: VfRecord, bytes: number): boolean {
  if (bytes < FRAME_LIMIT_BYTES_MIN || bytes > FRAME_LIMIT_BYTES_MAX) return false;
  vf.receiveEnabled = vf.api >= MailboxApi.v11 || bytes <= FRAME_LIMIT_BYTES_DEFAULT;
  if (!vf.receiveEnabled) return false;
  vf.frameLimitBytes = Math.max(vf.frameLimitBytes, bytes);
  return true;
}

/** Index 0 clears the list, 1 clears it and begins a new one, others add. */
function setMacVlan(vf: VfRecord, message: Uint32Array, index: number): boolean {
  if (vf.macAssigned && !vf.trusted && index > 0) return false;
  const mac = macOf(message);
  if (index > 0 && !isStation(mac)) return false;
  // A VF with several addresses cannot be checked for its one.
  if (index > 0) vf.filter.spoofCheck = false;
  if (index <= 1) vf.filter.clearMacVlans();
  return index === 0 || vf.filter.addMacVlan(mac);
}

function negotiateApi(vf: VfRecord, api: number): boolean {
  if (api > vf.apiMax || api === MailboxApi.v20) return false;
  vf.api = api as MailboxApi;
  return true;
}

function getQueues(vf: VfRecord, message: Uint32Array): boolean {
  if (vf.api < MailboxApi.v11) return false;
  message.set([vf.queuePairs, vf.queuePairs, 0, 0], 1);
  return true;
}

/** The redirection table, 128 entries of two bits: what an 82599 has for a VF of up to four queues. */
function getRssTable(vf: VfRecord, message: Uint32Array): boolean {
  if (vf.api < MailboxApi.v12) return false;
  const entries = 4 * VFRETA_WORDS;
  for (let out = 0; out < 8; out++) {
    let packed = 0;
    for (let i = 0; i < 16; i++) {
      const entry = (16 * out + i) % entries;
      packed |= ((word(vf.registers, VFRETA(entry >>> 2) >>> 2) >>> (8 * (entry & 3))) & 3) << (2 * i);
    }
    message[1 + out] = packed;
  }
  return true;
}

function getRssKey(vf: VfRecord, message: Uint32Array): boolean {
  if (vf.api < MailboxApi.v12) return false;
  for (let i = 0; i < VFRSSRK_WORDS; i++) message[1 + i] = word(vf.registers, VFRSSRK(i) >>> 2);
  return true;
}

/** An 82599 refuses promiscuous mode; an untrusted VF that asks for all multicast gets its own groups. */
function updateCastMode(vf: VfRecord, message: Uint32Array): boolean {
  const asked = word(message, 1);
  if (vf.api < MailboxApi.v12 || asked > CastMode.promiscuous) return false;
  if (vf.api === MailboxApi.v12 && asked === CastMode.promiscuous) return false;
  const mode = vf.trusted ? (asked as CastMode) : (Math.min(asked, CastMode.multicast) as CastMode);
  if (mode === CastMode.promiscuous) return false;
  vf.filter.castMode = mode;
  message[1] = mode;
  return true;
}

function getPfLinkState(vf: VfRecord, message: Uint32Array): boolean {
  if (vf.api < MailboxApi.v16) return false;
  const links = word(vf.registers, VFLINKS >>> 2);
  const speed = links & VFLINKS_SPEED_MASK;
  const isUp = (links & VFLINKS_UP) !== 0;
  if (!isUp) message[1] = 0;
  else if (speed === VFLINKS_SPEED_10G) message[1] = PF_LINK_SPEED_10G;
  else message[1] = speed === VFLINKS_SPEED_1G ? PF_LINK_SPEED_1G : PF_LINK_SPEED_100M;
  message[2] = isUp ? 1 : 0;
  return true;
}

function macOf(message: Uint32Array): Uint8Array {
  return Uint8Array.from({ length: MAC_BYTES }, (_, i) => word(message, 1 + (i >>> 2)) >>> (8 * (i & 3)));
}

function word(words: Uint32Array, index: number): number {
  return words[index] ?? 0;
}
