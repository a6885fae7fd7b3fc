#include <string.h>
#include <unistd.h>

#include "drain.h"
#include "install.h"
#include "options.h"
#include "run.h"
#include "sidecar.h"

static const char manual[] =
#include "manual.gen.h"
;

static int print(const char *text, size_t size) { return write(STDOUT_FILENO, text, size) == (ssize_t)size ? 0 : EXIT_OWN; }

int main(int argc, char **argv) {
    static struct options options;
    char why[256];
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
        return sidecar_main(&options);
    case COMMAND_INSTALL:
        return install_main(options.dir);
    case COMMAND_VERSION:
        return print("podgrace-helper " VERSION "\n", sizeof "podgrace-helper " VERSION "\n" - 1);
    default:
        return print(manual, sizeof manual - 1);
    }
}
