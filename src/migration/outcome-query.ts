// After a broken link: asks the destination, on a new connection, what became of a migration.
import { OperationError } from "../base/errors.ts";
import { PROGRAM } from "./identity.ts";
import { Conversation } from "./wire/conversation.ts";
import { helloFrom } from "./wire/negotiate.ts";
import type { MigrationId, Outcome } from "./wire/protocol.ts";
import type { Transport } from "./wire/transport.ts";

/**
 * `running`: the guest is the destination's. `discarded`: it never will be, the source may resume. `unknown`: whoever
 * answers knows nothing of it, and a person decides. Rejects with the OperationError that ended the conversation.
 */
export async function queryOutcome(transport: Transport, migrationId: MigrationId): Promise<Outcome["outcome"]> {
  const conversation = new Conversation({ role: "source", transport, onEnd: () => {} });
  await conversation.send(helloFrom(PROGRAM));
  await conversation.expect("hello-ack");
  await conversation.send({ kind: "query-outcome", migrationId });
  const answer = await conversation.expect("outcome");
  await conversation.send({ kind: "goodbye" });
  return answer.outcome;
}

/**
 * Asks until somebody answers, `attempts` times with `pauseMs` in between. Undefined when nobody did.
 */
export async function insistOnOutcome(options: {
  readonly connect: () => Promise<Transport>;
  readonly migrationId: MigrationId;
  readonly attempts: number;
  readonly pause: () => Promise<void>;
}): Promise<Outcome["outcome"] | undefined> {
  for (let attempt = 0; attempt < options.attempts; attempt++) {
    if (attempt > 0) await options.pause();
    try {
      return await queryOutcome(await options.connect(), options.migrationId);
    } catch (thrown) {
      if (!(thrown instanceof OperationError)) throw thrown;
    }
  }
  return undefined;
}
