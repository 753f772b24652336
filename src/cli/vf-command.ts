// `underway vf serve`: the VF for a QEMU that somebody else starts, in the foreground, with one line for each event.
import path from "node:path";
import { Command, Option } from "commander";
import { OperationError } from "../base/errors.ts";
import { controlPathOf } from "../host/vf-server/control-client.ts";
import type { serveVf } from "../host/vf-server/serve.ts";
import type { UplinkChoice } from "../host/vf-server/uplink.ts";
import type { VfServerEvent } from "../host/vf-server/vf-server.ts";
import { formatMac, isGroupMac, parseMac, ZERO_MAC } from "../network/mac.ts";
import { networkPlan } from "../network/plan.ts";
import type { Environment } from "./environment.ts";
import { ExitCode } from "./exit-codes.ts";
import { checkingUsage } from "./failure.ts";
import { cancelOnInterrupt } from "./interrupt.ts";
import { PROGRAM } from "./program.ts";
import { vfEventLine, vfServingText } from "./vf-render.ts";

/** Who serves. Rejects with an OperationError if it cannot be done. */
export type VfService = typeof serveVf;
type ServeOptions = Parameters<VfService>[0];

const uplinkHelp =
  "where its frames go: none (the link is down), peer (built in: ARP and ping at 10.0.2.3), passt (this host's TCP stack, for a guest that is 10.0.2.15) or unix:PATH (QEMU's stream framing)";

const examples = `
Examples:
  $ ${PROGRAM} vf serve --socket vm/vf --uplink peer
      Then start QEMU with the options that it prints; see docs/QEMU.md.
  $ ${PROGRAM} vf serve --socket vm/vf --uplink unix:vm/port
      Its cable in a switch, or in another QEMU's -netdev stream.
`;

interface ServeWords {
  readonly socket: string;
  readonly control?: string;
  readonly mac: string;
  readonly uplink: string;
  readonly native: boolean;
  readonly allowUnsealedMemory?: boolean;
  readonly json?: boolean;
}

/** `done` gets the exit code. */
export function vfCommand(
  environment: Environment,
  loadService: () => Promise<VfService>,
  done: (exitCode: ExitCode) => void,
): Command {
  return new Command("vf")
    .summary("serve the VF to a QEMU of your own")
    .description("The VF for a QEMU that somebody else starts, over vfio-user. See docs/QEMU.md.")
    .usage("serve [options]")
    .helpCommand(false)
    .helpOption("-h, --help", "print this; with serve before it, its options")
    .addHelpText("after", `\nExamples:\n  $ ${PROGRAM} vf serve --socket vm/vf --uplink peer\n`)
    .addCommand(serveCommand(environment, loadService, done));
}

function serveCommand(
  environment: Environment,
  loadService: () => Promise<VfService>,
  done: (exitCode: ExitCode) => void,
): Command {
  const mac = formatMac(networkPlan.guestMac);
  return new Command("serve")
    .summary("serve one VF at a socket until Ctrl-C")
    .description(
      "Serves one 82599 VF at a Unix socket, for one QEMU (10.1 or newer) after the other. With its memory shared, that " +
        `QEMU's guest can be moved with \`${PROGRAM} sidecar\`.`,
    )
    .optionsGroup("The VF:")
    .requiredOption("--socket <PATH>", "where QEMU finds it; made with mode 0600")
    .addOption(new Option("--mac <ADDRESS>", "its address; the same on both hosts of a move").default(mac, mac))
    .addOption(new Option("--uplink <KIND>", uplinkHelp).default("none", "none"))
    .optionsGroup("Other:")
    .option("--control <PATH>", "where `sidecar` finds this server (default: the socket's path and .control)")
    .option("--no-native", "no native code: everything by messages, and nothing can be moved")
    .option("--allow-unsealed-memory", "map memory that its owner may shorten, which would end this process")
    .option("--json", "print one JSON object for each event")
    .helpOption("-h, --help", "print this")
    .addHelpText("after", examples)
    .action(async (words: ServeWords) => {
      done(await serve(words, environment, loadService));
    });
}

async function serve(
  words: ServeWords,
  environment: Environment,
  loadService: () => Promise<VfService>,
): Promise<ExitCode> {
  const { stdout, stderr, clock } = environment;
  const isJson = words.json === true;
  const options = checkingUsage(() => serveOptionsFrom(words));
  const onEvent = (event: VfServerEvent): void => {
    const line = isJson ? JSON.stringify({ atMs: clock.nowMs(), ...event }) : vfEventLine(event, clock.nowMs());
    stdout.write(`${line}\n`);
  };
  const service = await loadService();
  const ended = Promise.withResolvers<void>();
  const interrupts = cancelOnInterrupt(
    environment,
    () => {
      if (!isJson) stderr.write("Ending: a move under way is cancelled first. Ctrl-C again leaves at once.\n");
      ended.resolve();
    },
    () => {},
  );
  try {
    const running = await service({ ...options, onEvent });
    stdout.write(vfServingText(options, isJson, stdout));
    await ended.promise;
    await running.close();
    return ExitCode.done;
  } finally {
    interrupts.stop();
  }
}

/** Throws OperationError `usage-…` or `mac-invalid`. */
function serveOptionsFrom(words: ServeWords): Omit<ServeOptions, "onEvent"> {
  const mac = parseMac(words.mac);
  if (isGroupMac(mac) || mac === ZERO_MAC) {
    throw new OperationError({
      code: "usage-invalid-value",
      message: `--mac ${words.mac} is no address that a card can have.`,
      advice: "Use one whose first octet is even, such as 02:00:0a:00:02:0f.",
      facts: { option: "--mac", value: words.mac },
    });
  }
  if (!words.native && words.allowUnsealedMemory === true) {
    throw new OperationError({
      code: "usage-conflict",
      message: "--allow-unsealed-memory says how memory is shared, and --no-native that none is.",
      advice: "Give one of them.",
    });
  }
  const socketPath = path.resolve(words.socket);
  return {
    socketPath,
    controlPath: words.control === undefined ? controlPathOf(socketPath) : path.resolve(words.control),
    mac: formatMac(mac),
    uplink: parseUplink(words.uplink),
    isNative: words.native,
    allowUnsealed: words.allowUnsealedMemory === true,
  };
}

function parseUplink(text: string): UplinkChoice {
  if (text === "none" || text === "peer" || text === "passt") return { kind: text };
  const socket = /^unix:(.+)$/.exec(text)?.[1];
  if (socket !== undefined) return { kind: "unix", path: path.resolve(socket) };
  throw new OperationError({
    code: "usage-invalid-value",
    message: `--uplink cannot be "${text}".`,
    advice: "Use none, peer, passt, or unix: and the path of a socket.",
    facts: { option: "--uplink", value: text },
  });
}
