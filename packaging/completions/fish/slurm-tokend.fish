# Completions of slurm-tokend for fish, written from its -h: make completions.
# Is the command line at this command of the program's?
function __slurm_tokend_at
    set -l at ''
    set -l value 0
    set -g __slurm_tokend_at_rest
    set -l words (commandline -opc)
    for i in (seq 2 (count $words))
        if test $value = 1
            set value 0
            continue
        end
        switch "$at:$words[$i]"
            case ':--config'
                set value 1
        end
    end
    test "$at" = "$argv[1]"
end
complete -c slurm-tokend -f
complete -c slurm-tokend -n '__slurm_tokend_at ""' -l config -r -F -d 'read this configuration'
complete -c slurm-tokend -n '__slurm_tokend_at ""' -l check -d 'check configuration and key, say what is wrong, and end'
complete -c slurm-tokend -n '__slurm_tokend_at ""' -s h -l help -d 'show this text'
complete -c slurm-tokend -n '__slurm_tokend_at ""' -s V -l version -d 'show the version'
