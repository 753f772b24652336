// passt as a child process: the host's real TCP stack behind the guest's gateway address.
import { spawn, type ChildProcess } from "node:child_process";
import type { Duplex } from "node:stream";
import { assert } from "../base/assert.ts";
import { OperationError } from "../base/errors.ts";
import { ArpOperation, buildArpFrame, parseArpFrame } from "../network/arp.ts";
import { formatIpv4 } from "../network/ipv4.ts";
import { BROADCAST_MAC, formatMac, ZERO_MAC, type MacAddress } from "../network/mac.ts";
import type { NetworkPlan } from "../network/plan.ts";
import { StreamCable, type StreamCableOptions } from "./stream-cable.ts";

export interface PasstOptions {
  /** The program, absolute. */
  readonly program: string;
  readonly plan: NetworkPlan;
  /** What to do with frames from passt, and when its cable is out, which also is the end of passt. */
  readonly cable: StreamCableOptions;
}

export interface Passt {
  readonly pid: number;
  readonly cable: StreamCable;
}

/** Where the child finds its end of the socket pair. */
const CABLE_DESCRIPTOR = 3;
const READY_TIMEOUT_MS = 5000;
const PROBE_MAC = 0x0200_0a00_02fe as MacAddress;
const COMPLAINTS_BYTES_MAX = 4096;

/**
 * Starts passt and waits until it answers ARP for the gateway. Rejects with OperationError `passt-failed`.
 *
 * It gets one end of a socket pair instead of a path: no socket file whose folder must be open to the user that passt
 * changes to (nobody, when started by root), no race for who is ready first, and when this process goes away in
 * whatever way, the pair breaks and passt ends by itself (--fd implies --one-off).
 *
 * The interface is `lo`, so that it starts on a machine without a default route as well; all addresses are given, so
 * nothing is taken from that interface. The gateway's address is mapped to the host's loopback. Nothing is forwarded
 * inwards, and there is no DNS, no DHCP and no IPv6.
 */
export async function startPasst(options: PasstOptions): Promise<Passt> {
  const child = spawn(options.program, passtArguments(options.plan), {
    stdio: ["ignore", "ignore", "pipe", "pipe"],
    env: {},
  });
  const complaints = collectComplaints(child);
  const ended = new Promise<string>((resolve) => {
    child.on("error", (error) => resolve(error.message));
    child.on("exit", (status, signal) =>
      resolve(signal === null ? `it ended with status ${status}` : `it ended by ${signal}`),
    );
  });
  const ready = Promise.withResolvers<void>();
  const cable = new StreamCable(child.stdio[CABLE_DESCRIPTOR] as Duplex, answeringTo(options.cable, ready.resolve));
  cable.send(probeFrame(options.plan));
  const timer = setTimeout(() => ready.reject(new Error(`no answer in ${READY_TIMEOUT_MS} ms`)), READY_TIMEOUT_MS);
  try {
    const failure = await Promise.race([ready.promise, ended]);
    if (typeof failure === "string") throw new Error(failure);
  } catch (cause) {
    cable.close();
    child.kill("SIGKILL");
    throw passtFailed(options.program, (cause as Error).message, complaints.text());
  } finally {
    clearTimeout(timer);
  }
  assert(child.pid !== undefined, "a process that answers has a number");
  return { pid: child.pid, cable };
}

function passtArguments(plan: NetworkPlan): string[] {
  const flags = ["--foreground", "--quiet", "--ipv4-only", "--no-dhcp"];
  const settings = {
    fd: String(CABLE_DESCRIPTOR),
    interface: "lo",
    address: formatIpv4(plan.guestIp),
    netmask: String(plan.prefixLength),
    gateway: formatIpv4(plan.gatewayIp),
    "mac-addr": formatMac(plan.gatewayMac),
    dns: "none",
    search: "none",
    "tcp-ports": "none",
    "udp-ports": "none",
  };
  return [...flags, ...Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value])];
}

/** The cable's reports, but for the probe, its answer, and anything else that comes before that. */
function answeringTo(options: StreamCableOptions, onReady: () => void): StreamCableOptions {
  let isReady = false;
  return {
    ...options,
    onFrame: (frame) => {
      if (isReady) {
        options.onFrame(frame);
      } else if (parseArpFrame(frame)?.targetMac === PROBE_MAC) {
        isReady = true;
        onReady();
      }
    },
    onWritten: (frames, bytes) => {
      if (isReady) options.onWritten?.(frames, bytes);
    },
    onClosed: (end) => {
      if (isReady) options.onClosed(end);
    },
  };
}

/** Asks for the gateway from an address that is nobody's, which passt forgets with the guest's first frame. */
function probeFrame(plan: NetworkPlan): Uint8Array {
  const addresses = { senderMac: PROBE_MAC, senderIp: plan.guestIp, targetMac: ZERO_MAC, targetIp: plan.gatewayIp };
  return buildArpFrame(BROADCAST_MAC, { operation: ArpOperation.request, ...addresses });
}

function collectComplaints(child: ChildProcess): { text(): string } {
  let text = "";
  child.stderr?.setEncoding("utf8").on("data", (piece: string) => {
    text = (text + piece).slice(-COMPLAINTS_BYTES_MAX);
  });
  const isUseful = (line: string): boolean => line !== "" && !/ to syslog$|^Don't run as root/.test(line);
  return { text: () => text.split("\n").filter(isUseful).join("; ") };
}

function passtFailed(program: string, how: string, complaints: string): OperationError {
  return new OperationError({
    code: "passt-failed",
    message: `passt could not be started: ${how}${complaints === "" ? "" : ` (${complaints})`}`,
    advice:
      "Go on without it, on the built-in peer; or see whether this machine allows user namespaces, which passt isolates itself with.",
    facts: { program, how, complaints },
  });
}
