/* The only program of the Linux that Holdover is compared with: loads drivers, mounts the disk, writes one file. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PART (64 << 10)

static const char *modules[] = {
	"virtio_ring.ko", "virtio.ko", "virtio_pci_legacy_dev.ko", "virtio_pci_modern_dev.ko", "virtio_pci.ko", "virtio_blk.ko",
};

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

int main(void)
{
	static char part[PART];
	struct timespec from, to;
	long long bytes = atoll(SIZE), done;
	int file, at;

	mkdir("/dev", 0755);
	mount("dev", "/dev", "devtmpfs", 0, "");
	file = open("/dev/console", O_RDWR);
	dup2(file, 1);
	dup2(file, 2);
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
	for (at = 0; at < PART; at++)
		part[at] = at;
	clock_gettime(CLOCK_MONOTONIC, &from);
	file = open("/disk/seqwrite", O_WRONLY | O_CREAT | O_TRUNC, 0644);
	for (done = 0; done < bytes; done += PART)
		if (write(file, part, PART) != PART)
			end("write");
	if (fsync(file))
		end("fsync");
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("seqwrite bytes %lld microseconds %lld\n", bytes,
	       (to.tv_sec - from.tv_sec) * 1000000LL + (to.tv_nsec - from.tv_nsec) / 1000);
	end(NULL);
}
