"""What people see of a study: tables, progress, figures, results. They read the ledger and change nothing."""

import logging

# matplotlib reports a cache folder that it cannot write, and the building of its list of fonts, when it is imported.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
