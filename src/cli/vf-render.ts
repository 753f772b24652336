// What `vf serve` prints: how to plug a QEMU in, and a line for each thing that happens.
import { unreachable } from "../base/assert.ts";
import type { UplinkChoice } from "../host/vf-server/uplink.ts";
import type { VfServerEvent } from "../host/vf-server/vf-server.ts";
import type { Terminal } from "./environment.ts";
import { counted, formatBytes } from "./quantities.ts";

interface Serving {
  readonly socketPath: string;
  readonly controlPath: string;
  readonly mac: string;
  readonly uplink: UplinkChoice;
  readonly isNative: boolean;
}

/** QEMU's options that have to do with the VF, for 1 GiB of memory. */
function qemuArguments(socketPath: string): string[] {
  const device = { driver: "vfio-user-pci", id: "vf0", socket: { type: "unix", path: socketPath } };
  return [
    "-machine",
    "q35,memory-backend=ram",
    "-m",
    "1G",
    "-object",
    "memory-backend-memfd,id=ram,size=1G,share=on",
    "-device",
    JSON.stringify(device),
    "-global",
    "migration.switchover-ack-legacy=on",
  ];
}

export function vfServingText(serving: Serving, isJson: boolean, terminal: Terminal): string {
  const { socketPath, controlPath, mac, uplink, isNative } = serving;
  const words = qemuArguments(socketPath);
  if (isJson) {
    return `${JSON.stringify({ kind: "serving", socketPath, controlPath, mac, uplink, isNative, qemuArguments: words })}\n`;
  }
  const { bold, dim } = terminal.colors;
  const pairs = words.flatMap((word, index) =>
    index % 2 === 0 ? [`  ${word} ${quoted(words[index + 1] ?? "")}`] : [],
  );
  return [
    `${bold("Serving the VF")} ${mac} at ${socketPath}`,
    `  uplink   ${uplink.kind === "unix" ? `unix:${uplink.path}` : uplink.kind}`,
    `  control  ${controlPath}`,
    "",
    "QEMU 10.1 or newer takes it with these options among its own, memory as you like it:",
    ...pairs,
    dim("The last one is for QEMU 11.1 and newer; a QEMU that expects a guest also takes -S -incoming defer."),
    "",
    "",
  ].join("\n");
}

/** For a POSIX shell. */
const quoted = (word: string): string => (/^[\w=,.:/-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`);

/** One line, without its end, after the time of day in UTC. */
export function vfEventLine(event: VfServerEvent, nowMs: number): string {
  return `${new Date(nowMs).toISOString().slice(11, 19)}  ${sentenceOf(event)}`;
}

const jobs = { move: "A sidecar moves the guest away", expect: "A sidecar expects a guest" } as const;

const ends: Readonly<Record<Extract<VfServerEvent, { kind: "job-ended" }>["end"], string>> = {
  completed: "The guest runs on the destination",
  resumed: "The guest runs on here, with its card",
  "outcome-unknown": "Nobody knows whether the guest runs on the destination; it stands still here",
  arrived: "The guest has come, and runs here",
  discarded: "No guest has come",
  "taken-back": "The guest was taken back, and runs here",
  failed: "That could not be done",
};

function sentenceOf(event: VfServerEvent): string {
  switch (event.kind) {
    case "client-came":
      return "A client has come.";
    case "memory-shared":
      return `Its memory is shared: ${formatBytes(event.memoryBytes)}. Its guest can be moved.`;
    case "client-gone":
      return event.problem === undefined ? "The client has gone." : `The client was cut off: ${event.problem}.`;
    case "link":
      return `The link is ${event.isUp ? "up" : "down"}: ${event.why}.`;
    case "faults":
      return `${counted(event.count, "DMA access", "DMA accesses")} went nowhere, the first of them ${event.first}.`;
    case "job-began":
      return `${jobs[event.job]}.`;
    case "job-ended":
      return `${ends[event.end]}${event.why === "" ? "." : `: ${event.why}`}`;
    default:
      return unreachable(event);
  }
}
