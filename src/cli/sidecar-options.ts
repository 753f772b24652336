// From the words after `sidecar` to what the VF server is asked for, every bound and conflict checked on the way.
import path from "node:path";
import { OperationError } from "../base/errors.ts";
import { notConvergingChoices } from "../host/report.ts";
import type { TcpAddress } from "../host/tcp-transport.ts";
import { requireSafeLink, type TlsFiles } from "../host/tls-transport.ts";
import { controlPathOf } from "../host/vf-server/control-client.ts";
import type { ExpectRequest, MoveRequest } from "../host/vf-server/requests.ts";
import { strategyByName } from "../strategy/strategies.ts";
import { defaults } from "./migrate-options.ts";
import { parseChoice, parseRate, parseWholeNumber } from "./quantities.ts";

/** As commander hands them over. */
export interface SidecarWords {
  readonly vf: string;
  readonly control?: string;
  readonly qmp?: string;
  readonly device?: string;
  readonly to?: string;
  readonly listen?: string;
  readonly takeBack?: boolean;
  readonly strategy?: string;
  readonly downtimeLimit?: string;
  readonly bandwidth?: string;
  readonly roundsMax?: string;
  readonly ifNotConverging?: string;
  readonly tlsCa?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly record?: string;
  readonly json?: boolean;
}

export type SidecarRequest =
  | { readonly kind: "move"; readonly move: MoveRequest }
  | { readonly kind: "expect"; readonly expect: ExpectRequest }
  | { readonly kind: "take-back" };

export interface SidecarOptions {
  readonly controlPath: string;
  readonly request: SidecarRequest;
}

/** Throws OperationError `usage-…`, `strategy-unknown` or `tls-needed` for what cannot be meant. */
export function sidecarOptionsFrom(words: SidecarWords): SidecarOptions {
  const controlPath = words.control === undefined ? controlPathOf(path.resolve(words.vf)) : path.resolve(words.control);
  const given = (["to", "listen", "takeBack"] as const).filter((word) => words[word] !== undefined);
  const [what, another] = given;
  if (what === undefined || another !== undefined) {
    throw wrong(
      "A sidecar takes one of --to, --listen and --take-back.",
      "Give --to HOST:PORT next to the source's QEMU, and --listen HOST:PORT next to the destination's.",
    );
  }
  if (what !== "to") refuseMoveWords(words);
  if (what === "takeBack") return { controlPath, request: { kind: "take-back" } };
  const common = commonFrom(words);
  const address = parseAddress(what === "to" ? "--to" : "--listen", words[what] ?? "", what === "to" ? 1 : 0);
  requireSafeLink(address, common.tls);
  if (what === "listen") return { controlPath, request: { kind: "expect", expect: { ...common, at: address } } };
  return { controlPath, request: { kind: "move", move: { ...common, to: address, ...moveSettingsFrom(words) } } };
}

function moveSettingsFrom(words: SidecarWords): Omit<MoveRequest, "qmp" | "device" | "tls" | "to"> {
  const strategy = strategyByName(words.strategy ?? defaults.strategy);
  if (!strategy.machines.includes("qemu")) {
    throw wrong(
      `The strategy ${strategy.name} does not run on a QEMU.`,
      "See the machines of each strategy with `underway strategies`.",
    );
  }
  const { bandwidth } = words;
  return {
    strategy: strategy.name,
    downtimeLimitMs: parseWholeNumber("--downtime-limit", words.downtimeLimit ?? defaults.downtimeLimit, {
      min: 1,
      max: 60_000,
    }),
    ...(bandwidth === undefined ? {} : { bandwidthBytesPerSecond: parseRate("--bandwidth", bandwidth) }),
    roundsMax: parseWholeNumber("--rounds-max", words.roundsMax ?? defaults.roundsMax, { min: 1, max: 1000 }),
    ifNotConverging: parseChoice(
      "--if-not-converging",
      words.ifNotConverging ?? defaults.ifNotConverging,
      notConvergingChoices,
    ),
  };
}

function commonFrom(words: SidecarWords): Pick<MoveRequest, "qmp" | "device" | "tls"> {
  const { qmp, device } = words;
  if (qmp === undefined) {
    throw wrong("--qmp is missing.", "Give the path of QEMU's QMP socket: -qmp unix:PATH,server=on,wait=off there.");
  }
  const tls = tlsFrom(words);
  return {
    qmp: path.resolve(qmp),
    ...(device === undefined ? {} : { device }),
    ...(tls === undefined ? {} : { tls }),
  };
}

function tlsFrom({ tlsCa: ca, tlsCert: certificate, tlsKey: key }: SidecarWords): TlsFiles | undefined {
  if (ca === undefined && certificate === undefined && key === undefined) return undefined;
  if (ca === undefined || certificate === undefined || key === undefined) {
    throw wrong("--tls-ca, --tls-cert and --tls-key come together.", "Both sides prove who they are: give all three.");
  }
  return { ca: path.resolve(ca), certificate: path.resolve(certificate), key: path.resolve(key) };
}

const moveWords = [
  ["--strategy", "strategy"],
  ["--downtime-limit", "downtimeLimit"],
  ["--bandwidth", "bandwidth"],
  ["--rounds-max", "roundsMax"],
  ["--if-not-converging", "ifNotConverging"],
  ["--record", "record"],
] as const;

function refuseMoveWords(words: SidecarWords): void {
  const given = moveWords.find(([, word]) => words[word] !== undefined);
  if (given === undefined) return;
  throw wrong(`${given[0]} is for the source's side.`, "Give it to the sidecar that has --to.");
}

/** `HOST:PORT`, an IPv6 address in brackets. */
function parseAddress(option: string, text: string, portMin: number): TcpAddress {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host !== undefined && port >= portMin && port <= 65_535) return { host, port };
  throw wrong(`${option} cannot be "${text}".`, "Write HOST:PORT, and an IPv6 address in brackets: [::1]:4711.", {
    option,
    value: text,
  });
}

function wrong(message: string, advice: string, facts: Record<string, string> = {}): OperationError {
  return new OperationError({ code: "usage-sidecar", message, advice, facts });
}
