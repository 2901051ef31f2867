#!/usr/bin/env bash
# Submits one job to Spark: ./submit.sh [--profile NAME] JOB [options]; see ./submit.sh --help.
set -euo pipefail
home=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
  echo "submit.sh: $1" >&2
  exit 2
}

list_jobs() {
  local file name
  for file in "$home"/jobs/[a-z]*.py; do
    name=$(basename "$file" .py)
    printf '  %-20s %s\n' "${name//_/-}" "$(sed -n '1s/^"""[^:]*: \(.*\)$/\1/p' "$file")"
  done
}

help() {
  cat <<EOF
usage: ./submit.sh [--profile NAME] JOB [options]

Runs a job with spark-submit and passes its exit status on: 0 done, 1 failed, 2 wrong arguments,
3 a gate did not hold. The last line on stdout is the job's report.

jobs (./submit.sh JOB --help tells the options of each):
$(list_jobs)

profiles (--profile, else \$POOL3_PROFILE, else local):
$(for file in "$home"/conf/*.conf; do printf '  %s\n' "$(basename "$file" .conf)"; done)

environment:
  POOL3_SPARK_MASTER   the master's URL for the profile standalone, such as spark://host:7077
  POOL3_PYTHON         the Python of driver and executors (default: .venv/bin/python, else python3)
  SPARK_SUBMIT_OPTIONS more options for spark-submit, such as "--conf spark.executor.cores=2"
EOF
}

profile=${POOL3_PROFILE:-local}
while [ $# -gt 0 ]; do
  case $1 in
    --profile) [ $# -gt 1 ] || fail "expected a name after --profile"; profile=$2; shift 2 ;;
    --profile=*) profile=${1#*=}; shift ;;
    -h | --help) help; exit 0 ;;
    -*) fail "expected a job before $1; ./submit.sh --help lists the jobs" ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || { help >&2; exit 2; }

job=$1
shift
main="$home/jobs/${job//-/_}.py"
case $job in *[!a-z0-9-]* | "") fail "expected a job, found '$job'; ./submit.sh --help lists the jobs" ;; esac
[ -f "$main" ] || fail "expected a job, found '$job'; ./submit.sh --help lists the jobs"
conf="$home/conf/$profile.conf"
case $profile in */*) fail "expected the name of a profile in conf/, found '$profile'" ;; esac
[ -f "$conf" ] || fail "expected a profile in conf/, found '$profile'; ./submit.sh --help lists them"

python=${POOL3_PYTHON:-$home/.venv/bin/python}
command -v "$python" >/dev/null || python=$(command -v python3) || fail "found no Python; run make setup"
export PYSPARK_PYTHON=$python PYSPARK_DRIVER_PYTHON=$python
export LC_ALL=C.UTF-8 LANG=C.UTF-8 PYTHONUTF8=1

submit=$(dirname "$python")/spark-submit
[ -x "$submit" ] || submit=$(command -v spark-submit) || fail "found no spark-submit; run make setup"

# An embedded Spark talks to itself alone.
[ "$profile" != local ] || export SPARK_LOCAL_IP=127.0.0.1

master=()
if [ "$profile" = standalone ]; then
  [ -n "${POOL3_SPARK_MASTER:-}" ] ||
    fail "profile standalone needs the master's URL in \$POOL3_SPARK_MASTER, such as spark://host:7077"
  master=(--master "$POOL3_SPARK_MASTER")
fi

staging=$(mktemp -d)
trap 'rm -rf "$staging"' EXIT
"$python" "$home/conf/application_zip.py" "$home" "$staging/pool3-application.zip"

read -ra more <<<"${SPARK_SUBMIT_OPTIONS:-}"
command=("$submit" "${master[@]}" --properties-file "$conf"
  --name "$job"
  --py-files "$staging/pool3-application.zip"
  --conf "spark.executorEnv.LC_ALL=C.UTF-8" --conf "spark.executorEnv.PYTHONUTF8=1"
  --driver-java-options "-Dlog4j2.configurationFile=file:$home/conf/log4j2.properties"
  "${more[@]}" "$main" "$@")
printf '+' >&2
printf ' %q' "${command[@]}" >&2
printf '\n' >&2
status=0
"${command[@]}" || status=$?
exit "$status"
