// Certificates for tests, made by openssl: authorities, and what they have signed.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import { notRun } from "./test-programs.ts";
import type { TlsFiles } from "./tls-transport.ts";

export class TestCertificates {
  readonly #directory: string;

  /** Undefined, and the test is not run, where there is no openssl. The files are gone with the test. */
  static make(t: TestContext): TestCertificates | undefined {
    const { error } = spawnSync("openssl", ["version"]);
    if (error !== undefined) return notRun(t, `openssl is not installed (${error.message})`);
    const directory = mkdtempSync(path.join(tmpdir(), "underway-"));
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    return new TestCertificates(directory);
  }

  private constructor(directory: string) {
    this.#directory = directory;
  }

  authority(name: string): void {
    this.#certificate(name, ["-addext", "keyUsage=critical,keyCertSign"]);
  }

  /** For this computer, by name and by address, unless other names are given. */
  signed(name: string, by: string, names = "DNS:localhost,IP:127.0.0.1"): void {
    const issuer = ["-CA", this.#file(`${by}.pem`), "-CAkey", this.#file(`${by}.key`)];
    const extensions = [`subjectAltName=${names}`, "basicConstraints=critical,CA:FALSE"];
    this.#certificate(name, [...issuer, ...extensions.flatMap((extension) => ["-addext", extension])]);
  }

  /** The files of one side: whom it trusts, and who it is. */
  files(trusted: string, name: string): TlsFiles {
    return { ca: this.#file(`${trusted}.pem`), certificate: this.#file(`${name}.pem`), key: this.#file(`${name}.key`) };
  }

  #certificate(name: string, options: readonly string[]): void {
    const key = [
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-keyout",
      this.#file(`${name}.key`),
    ];
    const subject = ["-subj", `/CN=${name}`, "-days", "2", "-out", this.#file(`${name}.pem`)];
    const { status, stderr } = spawnSync("openssl", ["req", "-x509", ...key, ...subject, ...options], {
      encoding: "utf8",
    });
    if (status !== 0) throw new Error(`openssl ended with ${status}: ${stderr}`);
  }

  #file(name: string): string {
    return path.join(this.#directory, name);
  }
}
