// The address plan of the guest's network: who has which address, the same for every run.
import { parseIpv4Address, type Ipv4Address } from "./ipv4.ts";
import { parseMac, type MacAddress } from "./mac.ts";

export interface NetworkPlan {
  readonly prefixLength: number;
  readonly guestIp: Ipv4Address;
  /** The VF's, given by its PF. */
  readonly guestMac: MacAddress;
  /** passt: to the guest its gateway, which passt maps to the host's loopback. */
  readonly gatewayIp: Ipv4Address;
  readonly gatewayMac: MacAddress;
  /** The built-in peer. */
  readonly peerIp: Ipv4Address;
  readonly peerMac: MacAddress;
}

/** Locally administered MAC addresses spell the IP address. */
export const networkPlan: NetworkPlan = {
  prefixLength: 24,
  guestIp: parseIpv4Address("10.0.2.15"),
  guestMac: parseMac("02:00:0a:00:02:0f"),
  gatewayIp: parseIpv4Address("10.0.2.2"),
  gatewayMac: parseMac("02:00:0a:00:02:02"),
  peerIp: parseIpv4Address("10.0.2.3"),
  peerMac: parseMac("02:00:0a:00:02:03"),
};
