// A host's evidence for the audit, left in files: memory and ledger are too large for the channel to the parent.
import { writeFileSync } from "node:fs";
import path from "node:path";
import { serializeImage } from "../audit/image-recorder.ts";
import { serializeLedger } from "../audit/ledger-codec.ts";
import type { Ledger } from "../audit/ledger.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";

/** At once: nothing may run between the memory that is written and the VF's state that is taken with it. */
export function writeSourceFiles(
  directory: string,
  { memory, ledger }: { readonly memory: GuestMemory; readonly ledger: Ledger },
): { readonly memoryFile: string; readonly ledgerFile: string } {
  const memoryFile = path.join(directory, "source-memory");
  const ledgerFile = path.join(directory, "source-ledger");
  writeFileSync(memoryFile, serializeImage(memory.bytes(), memory.pages.sizeBytes));
  writeFileSync(ledgerFile, serializeLedger(ledger.record()));
  return { memoryFile, ledgerFile };
}
