// `underway sidecar`: next to a QEMU that somebody else started, moves its guest away or takes one in.
import { Command } from "commander";
import { unreachable } from "../base/assert.ts";
import { MoveTimes } from "../host/move-times.ts";
import type { JobEnd } from "../host/vf-server/answers.ts";
import type { askForJob } from "../host/vf-server/control-client.ts";
import { errorOf } from "../host/vf-server/failure.ts";
import type { MoveRequest, Request } from "../host/vf-server/requests.ts";
import type { Environment } from "./environment.ts";
import { ExitCode } from "./exit-codes.ts";
import { checkingUsage } from "./failure.ts";
import { defaults } from "./migrate-options.ts";
import { PROGRAM, VERSION } from "./program.ts";
import { Recording } from "./recording.ts";
import { sidecarOptionsFrom, type SidecarRequest, type SidecarWords } from "./sidecar-options.ts";
import { watched } from "./watched.ts";
import { renderSidecarReport, sidecarReport } from "./sidecar-report.ts";

/** Who has a VF server do something. Rejects with an OperationError when it refuses, or is not there. */
export type Controller = typeof askForJob;

const examples = `
Examples:
  $ ${PROGRAM} sidecar --vf b/vf --qmp b/qmp --listen 127.0.0.1:4711
      Next to the destination's QEMU: ends when the guest runs there.
  $ ${PROGRAM} sidecar --vf a/vf --qmp a/qmp --to 127.0.0.1:4711
      Next to the source's QEMU: moves its guest, and says how that went.

Between two hosts both take --tls-ca, --tls-cert and --tls-key. docs/QEMU.md goes
through it step by step. Ctrl-C cancels, and the guest runs on, on the source.
`;

/** `done` gets the exit code. */
export function sidecarCommand(
  environment: Environment,
  loadController: () => Promise<Controller>,
  done: (exitCode: ExitCode) => void,
): Command {
  return new Command("sidecar")
    .summary("move the guest of a QEMU of your own, or take one in")
    .description(
      `Next to a QEMU that somebody else started, with a VF of \`${PROGRAM} vf serve\`: moves its guest to another such ` +
        "QEMU, or takes a guest in. Nothing is audited: nobody keeps a ledger of what the card wrote.",
    )
    .optionsGroup("Which QEMU:")
    .requiredOption("--vf <PATH>", "the VF's socket, as given to vf serve")
    .option("--qmp <PATH>", "QEMU's QMP socket")
    .option("--device <ID>", "the VF's id= among QEMU's devices (default: the only 82599 VF)")
    .option("--control <PATH>", "vf serve's control socket (default: the VF's path and .control)")
    .optionsGroup("What to do:")
    .option("--to <HOST:PORT>", "move the guest to where another sidecar listens")
    .option("--listen <HOST:PORT>", "take a guest in")
    .option("--take-back", "after an unknown outcome: it runs nowhere else, let it run here")
    .optionsGroup("How it moves:")
    .option("--strategy <NAME>", `see \`${PROGRAM} strategies\` (default: ${defaults.strategy})`)
    .option("--downtime-limit <MS>", `switch over once no more is expected (default: ${defaults.downtimeLimit})`)
    .option("--bandwidth <RATE>", "limit in bits per second (100M, 1G), or bytes per second (12MB) (default: none)")
    .option("--rounds-max <N>", `rounds of pre-copy at most (default: ${defaults.roundsMax})`)
    .option("--if-not-converging <CHOICE>", `switch-over or give-up (default: ${defaults.ifNotConverging})`)
    .optionsGroup("Between hosts, TLS 1.3:")
    .option("--tls-ca <FILE>", "the authority that signed the other side's certificate")
    .option("--tls-cert <FILE>", "this side's certificate")
    .option("--tls-key <FILE>", "its key")
    .optionsGroup("Other:")
    .option("--record <FILE>", "write the event stream, one JSON object a line")
    .option("--json", "print the report as JSON, and nothing else, on stdout")
    .helpOption("-h, --help", "print this")
    .addHelpText("after", examples)
    .action(async (words: SidecarWords) => {
      done(await sidecar(words, environment, loadController));
    });
}

async function sidecar(
  words: SidecarWords,
  environment: Environment,
  loadController: () => Promise<Controller>,
): Promise<ExitCode> {
  const { controlPath, request } = checkingUsage(() => sidecarOptionsFrom(words));
  const recording =
    words.record === undefined || request.kind !== "move"
      ? undefined
      : await Recording.open(words.record, request.move, VERSION);
  const times = new MoveTimes();
  const side = request.kind === "expect" ? "destination" : "source";
  const cancelling = "Cancelling; the guest stays where it runs.";
  return watched(environment, { recording, cancelling }, async (progress, signal) => {
    const ask = await loadController();
    const end = await ask(controlPath, requestOf(request), {
      onStage: (text) => progress.stage(text),
      onEvent: (event) => {
        times.event(event);
        recording?.event({ ...event, side });
        progress.event({ ...event, side });
        if (side === "destination" && event.kind === "phase") {
          const stage = arrivalStages[event.phase];
          if (stage !== undefined) progress.stage(stage);
        }
      },
      onListening: ({ host, port }) => progress.stage(`Waiting for a guest at ${addressText(host, port)}`),
      signal,
    });
    progress.end();
    return tell(end, { request, times, words, environment });
  });
}

/** What the destination's person sees of a phase; the rest is the source's to tell. */
const arrivalStages: Readonly<Partial<Record<string, string>>> = {
  "pre-copy": "A guest comes in; it still runs on the source",
  "hand-over": "Everything is here; loading the machine and the VF",
};

const addressText = (host: string, port: number): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;

function requestOf(request: SidecarRequest): Exclude<Request, { cancel: unknown } | { status: unknown }> {
  if (request.kind === "move") return { move: request.move };
  return request.kind === "expect" ? { expect: request.expect } : { takeBack: {} };
}

interface Told {
  readonly request: SidecarRequest;
  readonly times: MoveTimes;
  readonly words: SidecarWords;
  readonly environment: Environment;
}

function tell(end: JobEnd, { request, times, words, environment }: Told): ExitCode {
  const { stdout } = environment;
  const isJson = words.json === true;
  switch (end.kind) {
    case "completed": {
      const report = sidecarReport(end, (request as { move: MoveRequest }).move, times);
      stdout.write(isJson ? `${JSON.stringify(report, undefined, 2)}\n` : renderSidecarReport(report, stdout));
      return ExitCode.done;
    }
    case "arrived":
    case "taken-back": {
      const said =
        end.kind === "arrived" ? "The guest runs here, and its address was announced." : "The guest runs here again.";
      stdout.write(isJson ? `${JSON.stringify({ outcome: end.kind }, undefined, 2)}\n` : `${said}\n`);
      return ExitCode.done;
    }
    case "resumed":
    case "outcome-unknown":
    case "discarded":
      throw errorOf(end.failure);
    default:
      return unreachable(end);
  }
}
