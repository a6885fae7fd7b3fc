"""A Celery application on the file-system broker, in the directory that it is started in.

A task writes a line as it begins and one as it ends; what nobody has taken lies in `queue`.
"""

import time
from pathlib import Path

from celery import Celery

HERE = Path.cwd()
QUEUE = HERE / "queue"
QUEUE.mkdir(exist_ok=True)

app = Celery("tasks", broker="filesystem://")
app.conf.broker_connection_retry_on_startup = True
app.conf.broker_transport_options = {
    "data_folder_in": str(QUEUE),
    "data_folder_out": str(QUEUE),
    "control_folder": str(HERE / "control"),
}


@app.task
def work(number: int, seconds: float) -> None:
    """Take `seconds`, between two lines in the diary."""
    write("begin", number)
    time.sleep(seconds)
    write("end", number)


def write(what: str, number: int) -> None:
    with (HERE / "diary").open("a", encoding="utf-8") as diary:
        diary.write(f"{what} {number}\n")
