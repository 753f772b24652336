// The two hosts of a move as their parent has them: processes of their own, and the move from one to the other.
import { OperationError } from "../base/errors.ts";
import { Child, type Methods } from "./child-rpc.ts";
import type { MigrateOptions, ReportBuilder, SidedEvent } from "./report.ts";
import type { TcpAddress } from "./tcp-transport.ts";
import type { MoveResult, MoveSettings, VmHostEvent, VmHostMethods } from "./vm-host-messages.ts";

export interface MigrationSinks {
  readonly onEvent: (event: SidedEvent) => void;
  /** What is being done, for a person. */
  readonly onStage: (text: string) => void;
  /** Cancels the move; the guest then runs on the source. */
  readonly signal: AbortSignal;
}

/**
 * What is compiled while it runs (an emulator's translated code, a model's driver) is compiled by V8's worker threads, four
 * by default. More than one of them take the cores from the threads that move the guest.
 */
const nodeOptions = ["--v8-pool-size=1"];

/** Starts a host; what it tells goes to the report and to whoever watches. */
export function startHost<M extends Methods>(options: {
  readonly side: "source" | "destination";
  readonly module: URL;
  readonly builder: ReportBuilder;
  readonly sinks: MigrationSinks;
}): Child<M, VmHostEvent> {
  const { side, module, builder, sinks } = options;
  return new Child<M, VmHostEvent>({
    name: side,
    module,
    nodeOptions,
    onEvent: (event) => {
      if (event.kind === "progress") return sinks.onStage(event.text);
      const sided = { ...event.event, side };
      builder.event(sided);
      sinks.onEvent(sided);
    },
  });
}

/** Moves the guest; rejects with an OperationError that says where it is now, if it did not get there. */
export async function moveBetween(
  source: Pick<VmHostMethods, "moveOut" | "cancel">,
  to: TcpAddress,
  options: MigrateOptions,
  signal: AbortSignal,
): Promise<{ bytesSent: number }> {
  const { strategy, downtimeLimitMs, roundsMax, ifNotConverging, bandwidthBytesPerSecond } = options;
  const cancel = (): void => void source.cancel(null).catch(() => {});
  signal.addEventListener("abort", cancel);
  const settings: MoveSettings = {
    to,
    strategy,
    downtimeLimitMs,
    roundsMax,
    ifNotConverging,
    ...(bandwidthBytesPerSecond === undefined ? {} : { bandwidthBytesPerSecond }),
  };
  const result = await source.moveOut(settings);
  signal.removeEventListener("abort", cancel);
  return completedOrThrow(result);
}

function completedOrThrow(result: MoveResult): { bytesSent: number } {
  if (result.kind === "completed") return result;
  const { code, message, advice, facts } = result.failure;
  const where = result.kind === "resumed" ? "The guest runs on the source." : "The guest stands still on the source.";
  throw new OperationError({ code, message: `${message} ${where}`, advice, facts: { ...facts, outcome: result.kind } });
}

export function throwIfCancelled(signal: AbortSignal): void {
  if (!signal.aborted) return;
  throw new OperationError({
    code: "cancelled",
    message: "The migration was cancelled before it began.",
    advice: "Start it again when you want to move the guest.",
  });
}
