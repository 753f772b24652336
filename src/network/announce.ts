// How a destination host tells the network that a MAC address has moved to its port, in QEMU's manner.
import { ArpOperation, buildArpFrame } from "./arp.ts";
import type { Ipv4Address } from "./ipv4.ts";
import { BROADCAST_MAC, ZERO_MAC, type MacAddress } from "./mac.ts";

/**
 * When to send the announcement, counted from the moment the VF may receive: at once, then four more times, since
 * any of them may be lost (QEMU, net/announce.c: announce-initial 50 ms, announce-step 100 ms, 5 rounds).
 */
export const announceDelaysMs: readonly number[] = [0, 50, 200, 450, 800];

/**
 * Broadcast frames whose source is `mac`: a RARP request, which every switch learns from and no station answers
 * (net/announce.c, announce_self_create), and, when the address is known, a gratuitous ARP request for peers' caches.
 */
export function announceFrames(mac: MacAddress, ip?: Ipv4Address): Uint8Array[] {
  const nobody = 0 as Ipv4Address;
  const reverse = { senderMac: mac, senderIp: nobody, targetMac: mac, targetIp: nobody };
  const frames = [buildArpFrame(BROADCAST_MAC, { operation: ArpOperation.reverseRequest, ...reverse })];
  if (ip !== undefined) {
    const gratuitous = { senderMac: mac, senderIp: ip, targetMac: ZERO_MAC, targetIp: ip };
    frames.push(buildArpFrame(BROADCAST_MAC, { operation: ArpOperation.request, ...gratuitous }));
  }
  return frames;
}
