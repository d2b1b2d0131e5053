# Twenty wirings on a calibration that the node made in this guest, whose kernel can be preempted: none has a p99 above the
# bound that was guaranteed. `BENCH=wirings sh tests/tsn/run.sh cloud-amd64 6.12-rt-amd64`; the table is left as wirings.txt.
# checks: wirings-guaranteed wirings-kept
TEMPOS_TESTS_BUILT=1 TEMPOS_WORK=/t/work.so /t/deps/wirings --seconds "${SECONDS_EACH:-2}" --calibrate 45s >/out/wirings.txt 2>&1
cat /out/wirings.txt
judged=$(sed -n 's/^granted as guaranteed: //p' /out/wirings.txt)
case ${judged:-0} in 0*) failed wirings-guaranteed "$(tail -n 1 /out/wirings.txt)" ;; *) ok wirings-guaranteed ;; esac
case $judged in *'of them above the bound: 0'*) ok wirings-kept ;; *) failed wirings-kept "$judged" ;; esac
