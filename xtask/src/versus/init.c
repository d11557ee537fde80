/* The only program of the Linux that Holdover is compared with: loads drivers, mounts the disk, writes a file, and reads it cold:
 * from its beginning, single pages at random, and single pages of the disk with some in flight at once, past the page cache. Then it reads skewed: single
 * pages of a file as large as all memory, most of them from its first fifth. Told to `kexec` it does nothing but that, with much in
 * a tmpfs, which is lost. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PART (64 << 10)
#define PAGE 4096
#define READS 4096
#define IN_FLIGHT 16
#define NAME "/disk/seqwrite"
#define SKEWED "/disk/skewed"
#define SKEWED_READS 100000

static const char *modules[] = {
	"virtio_ring.ko", "virtio.ko", "virtio_pci_legacy_dev.ko", "virtio_pci_modern_dev.ko", "virtio_pci.ko", "virtio_blk.ko",
};
static char part[PART];
static char pages[IN_FLIGHT][PAGE] __attribute__((aligned(PAGE)));
static uint32_t order[1 << 20];
static long long took[READS];

static void end(const char *what)
{
	if (what)
		perror(what);
	fflush(stdout);
	sync();
	sleep(1);
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

static long long nanos(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static long long now(void)
{
	return nanos() / 1000;
}

static void report(const char *name, long long amount, long long start)
{
	printf("%s of %lld microseconds %lld\n", name, amount, now() - start);
}

static int compare(const void *one, const void *other)
{
	long long a = *(const long long *)one, b = *(const long long *)other;

	return (a > b) - (a < b);
}

static void report_latencies(void)
{
	qsort(took, READS, sizeof *took, compare);
	printf("latency-p50 of %d nanoseconds %lld\n", READS, took[READS / 2]);
	printf("latency-p99 of %d nanoseconds %lld\n", READS, took[READS / 100 * 99]);
}

static uint32_t below(uint32_t end)
{
	static uint64_t random = 0x2545f4914f6cdd1dULL;

	random ^= random >> 12;
	random ^= random << 25;
	random ^= random >> 27;
	return (random >> 16) % end;
}

/* The first READS of so many pages, in an order without order. */
static void shuffle(uint32_t count)
{
	uint32_t at, with, page;

	if (count > sizeof order / sizeof *order || count < READS)
		end("pages");
	for (at = 0; at < count; at++)
		order[at] = at;
	for (at = count - 1; at > 0; at--) {
		with = below(at + 1);
		page = order[at];
		order[at] = order[with];
		order[with] = page;
	}
}

static void drop_caches(void)
{
	int file;

	sync();
	file = open("/proc/sys/vm/drop_caches", O_WRONLY);
	if (file < 0 || write(file, "3", 1) != 1)
		end("drop_caches");
	close(file);
}

/* Opens a file of which no page is in memory. */
static int cold(const char *name, int flags)
{
	int file;

	drop_caches();
	file = open(name, O_RDONLY | flags);
	if (file < 0)
		end(name);
	return file;
}

static void write_file(const char *name, long long bytes)
{
	long long done, start;
	int file, at;

	for (at = 0; at < PART; at++)
		part[at] = at;
	start = now();
	file = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	for (done = 0; done < bytes; done += PART)
		if (write(file, part, PART) != PART)
			end("write");
	if (fsync(file))
		end("fsync");
	report(strrchr(name, '/') + 1, bytes, start);
	close(file);
}

static void read_file(long long bytes)
{
	long long done, start;
	int file, at;

	file = cold(NAME, 0);
	start = now();
	for (done = 0; done < bytes; done += PART)
		if (pread(file, part, PART, done) != PART)
			end("read");
	report("seqread", bytes, start);
	close(file);

	file = cold(NAME, 0);
	shuffle(bytes / PAGE);
	start = now();
	for (at = 0; at < READS; at++) {
		took[at] = nanos();
		if (pread(file, part, PAGE, (off_t)order[at] * PAGE) != PAGE)
			end("read");
		took[at] = nanos() - took[at];
	}
	report("randread", READS, start);
	report_latencies();
	close(file);
}

static void read_disk(void)
{
	struct iocb blocks[IN_FLIGHT], *list[IN_FLIGHT];
	struct io_event events[IN_FLIGHT];
	aio_context_t context = 0;
	int file = cold("/dev/vda", O_DIRECT);
	long long start;
	int at, in;

	if (syscall(SYS_io_setup, IN_FLIGHT, &context))
		end("io_setup");
	shuffle(lseek(file, 0, SEEK_END) / PAGE);
	start = now();
	for (at = 0; at < READS; at += IN_FLIGHT) {
		for (in = 0; in < IN_FLIGHT; in++) {
			memset(&blocks[in], 0, sizeof blocks[in]);
			blocks[in].aio_lio_opcode = IOCB_CMD_PREAD;
			blocks[in].aio_fildes = file;
			blocks[in].aio_buf = (uintptr_t)pages[in];
			blocks[in].aio_nbytes = PAGE;
			blocks[in].aio_offset = (long long)order[at + in] * PAGE;
			list[in] = &blocks[in];
		}
		if (syscall(SYS_io_submit, context, IN_FLIGHT, list) != IN_FLIGHT)
			end("io_submit");
		if (syscall(SYS_io_getevents, context, IN_FLIGHT, IN_FLIGHT, events, NULL) != IN_FLIGHT)
			end("io_getevents");
		for (in = 0; in < IN_FLIGHT; in++)
			if (events[in].res != PAGE)
				end("read");
	}
	report("inflight", READS, start);
	close(file);
}

/* Sectors that were read from the disk (Linux: Documentation/block/stat.rst). */
static long long sectors_read(void)
{
	long long reads, merged, sectors;
	FILE *stat = fopen("/sys/block/vda/stat", "r");

	if (!stat || fscanf(stat, "%lld %lld %lld", &reads, &merged, &sectors) != 3)
		end("stat");
	fclose(stat);
	return sectors;
}

static void read_skewed(long long bytes)
{
	uint32_t count = bytes / PAGE, at, page;
	int file = cold(SKEWED, 0);
	long long before;

	while (read(file, part, PART) > 0)
		;
	posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);
	before = sectors_read();
	for (at = 0; at < SKEWED_READS; at++) {
		page = below(below(5) == 0 ? count : count / 5);
		if (pread(file, part, PAGE, (off_t)page * PAGE) != PAGE)
			end("read");
	}
	printf("disk pages %lld\n", (sectors_read() - before) * 512 / PAGE);
	close(file);
}

static void kexec(void)
{
	static const char words[] = WORDS;
	long long done, bytes = atoll(KEXEC_SIZE);
	int file, kernel, initramfs;

	mkdir("/tmp", 0755);
	mount("tmp", "/tmp", "tmpfs", 0, "");
	file = open("/tmp/data", O_WRONLY | O_CREAT, 0644);
	for (done = 0; done < bytes; done += PART)
		if (write(file, part, PART) != PART)
			end("write");
	close(file);
	kernel = open("/vmlinuz", O_RDONLY);
	initramfs = open("/initramfs", O_RDONLY);
	if (syscall(SYS_kexec_file_load, kernel, initramfs, sizeof words, words, 0))
		end("kexec_file_load");
	puts("kexec");
	fflush(stdout);
	reboot(RB_KEXEC);
	end("kexec");
}

int main(void)
{
	static char words[4096];
	long long bytes = atoll(SIZE), skewed = atoll(SKEWED_SIZE);
	int file, at;

	mkdir("/dev", 0755);
	mount("dev", "/dev", "devtmpfs", 0, "");
	file = open("/dev/console", O_RDWR);
	dup2(file, 1);
	dup2(file, 2);
	puts("init");
	fflush(stdout);
	mkdir("/proc", 0755);
	mount("proc", "/proc", "proc", 0, "");
	file = open("/proc/cmdline", O_RDONLY);
	read(file, words, sizeof words - 1);
	close(file);
	if (strstr(words, "kexec"))
		kexec();
	mkdir("/sys", 0755);
	mount("sys", "/sys", "sysfs", 0, "");
	for (at = 0; at < (int)(sizeof modules / sizeof *modules); at++) {
		file = open(modules[at], O_RDONLY);
		if (file < 0 || syscall(SYS_finit_module, file, "", 0))
			end(modules[at]);
		close(file);
	}
	mkdir("/disk", 0755);
	for (at = 0; access("/dev/vda", F_OK) && at < 100; at++)
		usleep(50000);
	if (mount("/dev/vda", "/disk", "ext2", 0, ""))
		end("mount");
	write_file(NAME, bytes);
	read_file(bytes);
	read_disk();
	write_file(SKEWED, skewed);
	read_skewed(skewed);
	end(NULL);
}
