#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "drain.h"
#include "install.h"
#include "options.h"
#include "run.h"
#include "sidecar.h"

static const char manual[] =
#include "manual.gen.h"
;

static int print(const char *text, size_t size) {
    return write(STDOUT_FILENO, text, size) == (ssize_t)size ? 0 : EXIT_OWN;
}

/* Relocated data is constant from here on. In a static program the C library leaves it writable, so
 * protect it here: the segment that the linker marked, in whole pages. */
static void protect_relocated(void) {
    const ElfW(Phdr) *headers = (const void *)getauxval(AT_PHDR);
    uintptr_t base = 0, page = getauxval(AT_PAGESZ);
    size_t n = headers != NULL && page > 0 ? getauxval(AT_PHNUM) : 0;
    for (size_t i = 0; i < n; i++) {
        if (headers[i].p_type == PT_PHDR) {
            base = (uintptr_t)headers - headers[i].p_vaddr;
        } else if (headers[i].p_type == PT_GNU_RELRO) {
            uintptr_t from = (base + headers[i].p_vaddr) & ~(page - 1);
            uintptr_t to = (base + headers[i].p_vaddr + headers[i].p_memsz) & ~(page - 1);
            mprotect((void *)from, to - from, PROT_READ); /* if refused, go on without */
        }
    }
}

int main(int argc, char **argv) {
    static struct options options;
    char why[256];
    protect_relocated();
    if (!options_parse(&options, argc, argv, why, sizeof why)) {
        say(why, NULL);
        return EXIT_OWN;
    }
    if (options.dry_run) {
        options_print(&options);
        return 0;
    }
    switch (options.command) {
    case COMMAND_RUN:
        return run_main(&options);
    case COMMAND_DRAIN:
        return drain_main(&options);
    case COMMAND_SIDECAR:
        log_to_output();
        return sidecar_main(&options);
    case COMMAND_INSTALL:
        return install_main(options.dir);
    case COMMAND_VERSION:
        return print("podgrace-helper " VERSION "\n", sizeof "podgrace-helper " VERSION "\n" - 1);
    default:
        return print(manual, sizeof manual - 1);
    }
}
