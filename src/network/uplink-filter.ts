// What may go out to an uplink such as passt that knows one guest only: frames to the gateway, and questions for it.
import { ArpOperation, parseArpFrame } from "./arp.ts";
import { destinationOf, ETHERNET_HEADER_BYTES, EtherType, etherTypeOf } from "./ethernet.ts";
import { parseIpv4, type Ipv4Address } from "./ipv4.ts";
import { isGroupMac, type MacAddress } from "./mac.ts";

/**
 * passt takes the source MAC of *any* frame for its guest's (tap.c, tap_handler_passt) and answers ARP for *any*
 * address but the guest's own (arp.c). On a shared segment it would send the guest's TCP data to the built-in peer
 * after the peer's first broadcast, and claim the peer's address. Behind this filter it sees only frames sent to its
 * MAC and ARP requests for its own address.
 */
export function gatewayFilter(gateway: { mac: MacAddress; ip: Ipv4Address }): (frame: Uint8Array) => boolean {
  return (frame) => {
    if (frame.length < ETHERNET_HEADER_BYTES) return false;
    const destination = destinationOf(frame);
    if (!isGroupMac(destination)) return destination === gateway.mac;
    const packet = parseArpFrame(frame);
    return packet?.operation === ArpOperation.request && packet.targetIp === gateway.ip;
  };
}

/**
 * A frame without the padding that brings it to the 60 bytes of the shortest Ethernet frame; a view. passt takes the
 * length of a segment from that of the frame (tcp.c, tcp_data_from_tap), so that to it a padded acknowledgment carries
 * six bytes of data, and the acknowledgment is lost on it.
 */
export function withoutPadding(frame: Uint8Array): Uint8Array {
  if (etherTypeOf(frame) !== EtherType.ipv4) return frame;
  const packet = parseIpv4(frame, ETHERNET_HEADER_BYTES);
  return packet === undefined ? frame : frame.subarray(0, packet.payloadEnd);
}
