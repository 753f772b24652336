// TLS on loopback: who is let in and who is not, what each is told, and that nothing leaves this computer without it.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { test, type TestContext } from "node:test";
import { OperationError } from "../base/errors.ts";
import type { Transport } from "../migration/wire/transport.ts";
import { connectTcp, listenTcp } from "./tcp-transport.ts";
import { TestCertificates } from "./tls-certificates.fixture.ts";
import { connectTls, listenTls, readTlsFiles, requireSafeLink, type TlsFiles } from "./tls-transport.ts";

const loopback = { host: "127.0.0.1", port: 0 };

interface Listening {
  readonly address: { host: string; port: number };
  readonly accepted: Promise<Transport>;
  readonly refused: Promise<OperationError>;
}

async function listening(t: TestContext, files: TlsFiles): Promise<Listening> {
  const accepted = Promise.withResolvers<Transport>();
  const refused = Promise.withResolvers<OperationError>();
  const on = { transport: accepted.resolve, refused: refused.resolve };
  const listener = await listenTls(loopback, readTlsFiles(files), on);
  t.after(() => listener.close());
  return { address: listener.address, accepted: accepted.promise, refused: refused.promise };
}

/** All that comes until the end, and how it ends. */
async function heard(transport: Transport): Promise<{ bytes: Buffer; code: string | undefined }> {
  const chunks: Uint8Array[] = [];
  const error = await new Promise<OperationError | undefined>((resolve) =>
    transport.start({ onData: (chunk) => void chunks.push(chunk.slice()), onClose: resolve }),
  );
  return { bytes: Buffer.concat(chunks), code: error?.code };
}

const hasCode = (code: string) => (error: unknown) => error instanceof OperationError && error.code === code;

test("two sides with certificates of one authority hear each other, every byte in order", async (t) => {
  const certificates = TestCertificates.make(t);
  if (certificates === undefined) return;
  certificates.authority("ca");
  certificates.signed("source", "ca");
  certificates.signed("destination", "ca");
  const { address, accepted } = await listening(t, certificates.files("ca", "destination"));
  for (const host of ["127.0.0.1", "localhost"]) {
    const here = await connectTls({ ...address, host }, readTlsFiles(certificates.files("ca", "source")));
    if (host === "localhost") {
      here.close();
      continue;
    }
    const there = await accepted;
    const [atSource, atDestination] = [heard(here), heard(there)];
    const sent = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 7) & 0xff));
    await there.send(Buffer.from("welcome"));
    await here.send(sent);
    here.close();
    assert.ok((await atDestination).bytes.equals(sent), "the stream is not the same");
    // Half open, as over TCP: whoever closed takes no more, and the other side's end is not an error.
    assert.equal((await atSource).code, undefined);
    assert.equal(here.bytesSent, there.bytesReceived);
  }
});

test("a source whose certificate another authority signed is refused, and both sides hear why", async (t) => {
  const certificates = TestCertificates.make(t);
  if (certificates === undefined) return;
  certificates.authority("ca");
  certificates.authority("other");
  certificates.signed("destination", "ca");
  certificates.signed("stranger", "other");
  const { address, refused } = await listening(t, certificates.files("ca", "destination"));
  const stranger = await connectTls(address, readTlsFiles(certificates.files("ca", "stranger")));
  const end = heard(stranger);
  void stranger.send(Buffer.from("hello"));
  assert.equal((await end).code, "tls-refused");
  assert.equal((await refused).code, "tls-peer-untrusted");
});

test("a destination that the source's authority did not sign, or for another host, is not told a word", async (t) => {
  const certificates = TestCertificates.make(t);
  if (certificates === undefined) return;
  certificates.authority("ca");
  certificates.authority("other");
  certificates.signed("source", "ca");
  certificates.signed("impostor", "other");
  certificates.signed("elsewhere", "ca", "DNS:elsewhere.example");
  for (const [name, trusts] of [
    ["impostor", "other"],
    ["elsewhere", "ca"],
  ] as const) {
    const { address } = await listening(t, certificates.files(trusts, name));
    const connecting = connectTls(address, readTlsFiles(certificates.files("ca", "source")));
    await assert.rejects(connecting, hasCode("tls-peer-untrusted"), name);
  }
});

test("one side with TLS and one without come to a typed end, whichever it is", async (t) => {
  const certificates = TestCertificates.make(t);
  if (certificates === undefined) return;
  certificates.authority("ca");
  certificates.signed("one", "ca");
  const files = certificates.files("ca", "one");
  const plain = await listenTcp(loopback, (transport) => {
    transport.start({ onData: () => transport.close(), onClose: () => {} });
    void transport.send(Buffer.from("not TLS at all"));
  });
  t.after(() => plain.close());
  await assert.rejects(connectTls(plain.address, readTlsFiles(files)), hasCode("tls-failed"));
  const { address, refused } = await listening(t, files);
  const naked = await connectTcp(address);
  const end = heard(naked);
  void naked.send(Buffer.from("not TLS at all"));
  await end;
  assert.equal((await refused).code, "tls-failed");
});

test("files that cannot be read, and a key that is not the certificate's, are said before anybody listens", async (t) => {
  const certificates = TestCertificates.make(t);
  if (certificates === undefined) return;
  certificates.authority("ca");
  certificates.signed("one", "ca");
  certificates.signed("two", "ca");
  const one = certificates.files("ca", "one");
  assert.throws(() => readTlsFiles({ ...one, ca: `${one.ca}.missing` }), hasCode("tls-file-unreadable"));
  const mixed = readTlsFiles({ ...one, key: certificates.files("ca", "two").key });
  const on = { transport: () => {} };
  await assert.rejects(listenTls(loopback, mixed, on), hasCode("tls-identity-invalid"));
  await assert.rejects(connectTls({ host: "127.0.0.1", port: 1 }, mixed), hasCode("tls-identity-invalid"));
  writeFileSync(one.certificate, "not PEM");
  await assert.rejects(listenTls(loopback, readTlsFiles(one), on), hasCode("tls-identity-invalid"));
});

test("without TLS only addresses of this computer will do", () => {
  for (const host of ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST", "::ffff:127.0.0.1"]) {
    requireSafeLink({ host, port: 1 }, undefined);
  }
  for (const host of [
    "0.0.0.0",
    "::",
    "10.0.0.1",
    "128.0.0.1",
    "host.example",
    "localhost.example",
    "",
    "::ffff:10.0.0.1",
  ]) {
    assert.throws(() => requireSafeLink({ host, port: 1 }, undefined), hasCode("tls-needed"), host);
    requireSafeLink({ host, port: 1 }, "given");
  }
});
