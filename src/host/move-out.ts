// Moves a guest out of this process, over TCP, and finds out what became of it even when the link breaks.
import { randomBytes } from "node:crypto";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { unreachable } from "../base/assert.ts";
import type { OperationError } from "../base/errors.ts";
import type { MigrationEventSink } from "../migration/events.ts";
import { insistOnOutcome } from "../migration/outcome-query.ts";
import type { MigratableVm } from "../migration/parts.ts";
import { migrateOut, type SourceOutcome } from "../migration/source.ts";
import { RateLimitedTransport } from "../migration/wire/rate-limit.ts";
import type { MigrationId } from "../migration/wire/protocol.ts";
import type { Transport } from "../migration/wire/transport.ts";
import { strategyByName } from "../strategy/strategies.ts";
import { hostClock } from "./clock.ts";
import { everySecond } from "./every-second.ts";
import { connectTcp, type TcpAddress } from "./tcp-transport.ts";
import type { MoveResult, MoveSettings } from "./vm-host-messages.ts";

const OUTCOME_ATTEMPTS = 10;
const OUTCOME_PAUSE_MS = 300;

export interface MoveOutOptions {
  readonly vm: MigratableVm;
  readonly move: MoveSettings;
  /** The VF's address. */
  readonly mac: string;
  readonly machineStateVersion: number;
  /** See Offer. */
  readonly machineHint?: string | undefined;
  readonly onEvent: MigrationEventSink;
  /** See SourceOptions. */
  readonly betweenSteps?: () => void;
  readonly signal: AbortSignal;
  /** How the destination is reached; plain TCP unless told otherwise. */
  readonly connect?: (to: TcpAddress) => Promise<Transport>;
}

/** Rejects only if the destination could not be reached to begin with. */
export async function moveOut(options: MoveOutOptions): Promise<MoveResult> {
  const {
    vm,
    move,
    mac,
    machineStateVersion,
    machineHint,
    onEvent,
    betweenSteps,
    signal,
    connect = connectTcp,
  } = options;
  const migrationId = randomBytes(16).toString("hex") as MigrationId;
  const transport = await connectForMove(move, connect);
  const outcome = await migrateOut({
    vm,
    strategy: strategyByName(move.strategy),
    transport,
    clock: hostClock,
    migrationId,
    mac,
    machineStateVersion,
    ...(machineHint === undefined ? {} : { machineHint }),
    limits: move,
    onEvent,
    yieldToGuest: () => nextTurn(),
    ...(betweenSteps === undefined ? {} : { betweenSteps }),
    signal,
    everySecond,
  });
  return resultOf(outcome, { transport, move, migrationId, connect });
}

async function connectForMove(move: MoveSettings, connect: NonNullable<MoveOutOptions["connect"]>): Promise<Transport> {
  const transport = await connect(move.to);
  const { bandwidthBytesPerSecond } = move;
  if (bandwidthBytesPerSecond === undefined) return transport;
  return new RateLimitedTransport(transport, {
    bytesPerSecond: bandwidthBytesPerSecond,
    clock: hostClock,
    sleep: (ms) => sleep(ms),
  });
}

interface Attempt {
  readonly transport: Transport;
  readonly move: MoveSettings;
  readonly migrationId: MigrationId;
  readonly connect: NonNullable<MoveOutOptions["connect"]>;
}

async function resultOf(outcome: SourceOutcome, attempt: Attempt): Promise<MoveResult> {
  switch (outcome.kind) {
    case "completed":
      return { kind: "completed", bytesSent: attempt.transport.bytesSent };
    case "resumed":
      return { kind: "resumed", failure: failureOf(outcome.error) };
    case "outcome-unknown":
      return askForOutcome(outcome, attempt);
    default:
      return unreachable(outcome);
  }
}

async function askForOutcome(
  unknown: Extract<SourceOutcome, { kind: "outcome-unknown" }>,
  { transport, move, migrationId, connect }: Attempt,
): Promise<MoveResult> {
  const failure = failureOf(unknown.error);
  const answer = await insistOnOutcome({
    connect: () => connect(move.to),
    migrationId,
    attempts: OUTCOME_ATTEMPTS,
    pause: () => sleep(OUTCOME_PAUSE_MS),
  });
  if (answer === "running") return { kind: "completed", bytesSent: transport.bytesSent };
  if (answer !== "discarded") return { kind: "outcome-unknown", failure };
  await unknown.takeBack();
  return { kind: "resumed", failure };
}

function failureOf({
  code,
  message,
  advice,
  facts,
}: OperationError): Extract<MoveResult, { failure: unknown }>["failure"] {
  return { code, message, advice, facts };
}
