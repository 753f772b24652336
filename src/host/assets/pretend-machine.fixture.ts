// A machine whose apt only pretends, for the tests of what is fetched through it.
import { execFileSync } from "node:child_process";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import type { PrepareOptions } from "./asset-cache.ts";

const ownPath = process.env["PATH"] ?? "";

interface PretendPackage {
  readonly files?: Record<string, string>;
  /** Its suite; the machine's own is trixie. */
  readonly suite?: string;
  readonly version?: string;
  /** A line of its index entry. */
  readonly field?: string;
}

/**
 * Its archive holds real .deb files made here, its file `calls` has a line for each use of apt-get, and dpkg-deb, flock
 * and xz are the host's own. Packages are found in the suites that the sources name when they are asked for.
 */
export class PretendMachine {
  readonly root: string;
  readonly messages: string[] = [];

  private constructor(root: string) {
    this.root = root;
  }

  static async make(t: TestContext): Promise<PretendMachine> {
    const machine = new PretendMachine(await mkdtemp(path.join(tmpdir(), "underway-assets-")));
    t.after(async () => {
      process.env["PATH"] = ownPath;
      await rm(machine.root, { recursive: true, force: true });
    });
    await machine.write("etc/debian.sources", "Types: deb\nURIs: file:///debian\nSuites: trixie\nComponents: main\n");
    await machine.#writeApt();
    await machine.#fillArchive();
    process.env["PATH"] = `${machine.root}/tools:${ownPath}`;
    return machine;
  }

  get options(): PrepareOptions {
    return { cacheDirectory: path.join(this.root, "cache"), onProgress: (message) => this.messages.push(message) };
  }

  async write(file: string, text: string): Promise<string> {
    const where = path.join(this.root, file);
    await mkdir(path.dirname(where), { recursive: true });
    await writeFile(where, text);
    return where;
  }

  async tool(name: string, script: string): Promise<void> {
    await chmod(await this.write(`tools/${name}`, `#!/bin/sh\n${script}\n`), 0o755);
  }

  async package(
    name: string,
    { files = {}, suite = "trixie", version = "1:2.3-4", field }: PretendPackage,
  ): Promise<void> {
    const tree = `${suite}-${name}`;
    const control = `Package: ${name}\nVersion: ${version}\nArchitecture: i386\n`;
    await this.write(`${tree}/DEBIAN/control`, `${control}Maintainer: A\nDescription: B\n`);
    await this.write(`archive/${suite}/${name}.txt`, `${control}${field ?? ""}\nSize: 1500000\nSHA256: 00\n`);
    for (const [file, text] of Object.entries(files)) {
      // Programs have to be executable; that the other files are as well does no harm.
      await chmod(await this.write(`${tree}/${file}`, text), 0o755);
    }
    const archive = path.join(this.root, `archive/${suite}/${name}_1.deb`);
    execFileSync("dpkg-deb", ["--build", "-Znone", path.join(this.root, tree), archive], { stdio: "ignore" });
  }

  async calls(): Promise<string[]> {
    const text = await readFile(path.join(this.root, "calls"), "utf8").catch(() => "");
    return text.split("\n").filter((line) => line !== "");
  }

  async #writeApt(): Promise<void> {
    const { root } = this;
    // The preferred suite, which is in the last word if any is, comes before the others.
    const ownSuites = `$(sed -n 's/^Suites: //p' "$(dirname "$APT_CONFIG")/etc/sources.list.d/debian.sources")`;
    const suites = `$(echo "$*" | sed -n 's/.*APT::Default-Release=//p') ${ownSuites}`;
    await this.tool(
      "apt-config",
      `if [ $1 = shell ]; then echo "SOURCELIST='${root}/none'"; echo "SOURCEPARTS='${root}/etc'"; fi`,
    );
    // Every package needs the one named like it with -needs, if there is one.
    await this.tool(
      "apt-get",
      `echo "$*" >> ${root}/calls
       test -e ${root}/broken && { cat ${root}/broken >&2; exit 100; }
       to=. how=
       for word; do case $word in
         Dir::Cache::archives=*) to=\${word#*=} ;;
         --print-uris) how=print ;;
         *=[0-9]*) name=\${word%%=*} ;;
       esac; done
       for suite in ${suites}; do
         test -e ${root}/archive/$suite/$name.txt || continue
         for file in ${root}/archive/$suite/\${name}_1.deb ${root}/archive/$suite/\${name}-needs_1.deb; do
           test -e $file || continue
           case $1-$how in
             install-print) echo "'file://$file' $(basename $file) 2500000 SHA256:00" ;;
             *) cp $file $to ;;
           esac
         done
         break
       done
       exit 0`,
    );
    await this.tool(
      "apt-cache",
      `for suite in ${suites}; do
         test -e ${root}/archive/$suite/$3.txt && exec cat ${root}/archive/$suite/$3.txt
       done
       exit 100`,
    );
  }

  async #fillArchive(): Promise<void> {
    const kernel = (release: string): Record<string, string> => ({
      [`boot/vmlinuz-${release}`]: "kernel",
      "boot/System.map": "not wanted",
      "lib/modules/6/ixgbevf.ko": "\0depends=mdio\0",
      "lib/modules/6/mdio.ko": "\0depends=\0",
      "lib/modules/6/pktgen.ko": "\0depends=\0",
      "lib/modules/6/virtio-iommu.ko": "\0depends=\0",
      "lib/modules/6/virtio_net.ko": "\0depends=net_failover\0",
      "lib/modules/6/net_failover.ko": "\0depends=failover\0",
      "lib/modules/6/failover.ko": "\0depends=\0",
      "lib/modules/6/other.ko": "not wanted",
    });
    const suite = "bookworm";
    await this.package("linux-image-686", { suite, field: "Depends: linux-base, linux-image-6.1.0-99-686 (= 6.1-1)" });
    await this.package("linux-image-6.1.0-99-686", { suite, files: kernel("6.1.0-99-686") });
    await this.package("linux-image-amd64", { version: "6.12.9-1", field: "Depends: linux-image-6.12.9-amd64 (= 1)" });
    await this.package("linux-image-6.12.9-amd64", { files: kernel("6.12.9-amd64") });
    await this.package("busybox-static", { files: { "usr/bin/busybox": "busybox" } });
    await this.package("seabios", {
      files: { "usr/share/seabios/bios.bin": "b", "usr/share/seabios/vgabios-stdvga.bin": "v" },
    });
    await this.package("passt", {
      files: { "usr/bin/passt": "passt", "usr/bin/passt.avx2": "passt", "usr/bin/pasta": "no" },
    });
  }
}
